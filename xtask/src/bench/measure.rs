//! Wall time and peak memory of a command.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::shell::Run;

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) seconds: f64,
    /// Peak resident memory in KiB of the program and of its own children, without the commands
    /// that it runs for a build; 0 if it was not asked for.
    pub(super) peak_kb: u64,
}

/// How many requests a disk that has nothing to do still gets in [`PAUSE`].
const IDLE: u64 = 8;
const PAUSE: Duration = Duration::from_millis(400);

/// Whether [`settle`] returns at once.
static HASTY: AtomicBool = AtomicBool::new(false);

/// From now on, no run waits for the disk: to try something out where others use it.
pub(super) fn be_hasty() {
    HASTY.store(true, Ordering::Relaxed);
}

/// Waits until what ran before has reached the disk, what it deleted included: the next run must
/// not pay for it. Gives up after two minutes.
pub(super) fn settle() {
    if HASTY.load(Ordering::Relaxed) {
        return;
    }
    rustix::fs::sync();
    let mut before = requests();
    for _ in 0..300 {
        std::thread::sleep(PAUSE);
        let now = requests();
        if now.saturating_sub(before) <= IDLE {
            return;
        }
        before = now;
    }
}

/// Requests that the disks have carried out, discards included, and those that wait.
fn requests() -> u64 {
    let stats = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let field = |words: &[&str], n: usize| words.get(n).and_then(|w| w.parse().ok()).unwrap_or(0);
    stats
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|words| {
            [3, 7, 11, 14]
                .iter()
                .map(|&n| field(&words, n))
                .sum::<u64>()
        })
        .sum()
}

/// Runs it to its end.
pub(super) fn timed(run: &Run, watch_memory: bool) -> Result<Taken> {
    let start = Instant::now();
    let mut child = run
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| run.shown())?;
    let stderr = child.stderr.take().context("stderr")?;
    let reader = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default());
    let watcher = watch_memory.then(|| {
        let pid = child.id();
        std::thread::spawn(move || watch(pid))
    });
    let status = child.wait()?;
    let seconds = start.elapsed().as_secs_f64();
    let peak_kb = watcher.and_then(|w| w.join().ok()).unwrap_or(0);
    let errors = reader.join().unwrap_or_default();
    if !status.success() {
        bail!("`{}` failed: {status}\n{}", run.shown(), errors.trim_end());
    }
    Ok(Taken { seconds, peak_kb })
}

/// Starts all of them and waits until the last one has ended. The memory is that of the first.
pub(super) fn at_once(runs: &[Run], watch_memory: bool) -> Result<Taken> {
    let start = Instant::now();
    let taken: Vec<Taken> = std::thread::scope(|scope| {
        let threads = runs.iter().enumerate().map(|(number, run)| {
            // To look at all of them would slow them down.
            scope.spawn(move || timed(run, watch_memory && number == 0))
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
            .collect::<Result<_>>()
    })?;
    Ok(Taken {
        seconds: start.elapsed().as_secs_f64(),
        peak_kb: taken.first().map_or(0, |first| first.peak_kb),
    })
}

/// Looks at the process until it is gone. The kernel keeps the high-water mark, so looking now and
/// then misses only what is new in the last moment. Grandchildren are a build's own commands.
fn watch(pid: u32) -> u64 {
    let mut peak = 0;
    while let Some(own) = high_water(pid) {
        let tasks = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = tasks.unwrap_or_default();
        let helpers = children.split_whitespace().filter_map(|p| p.parse().ok());
        peak = peak.max(own + helpers.filter_map(high_water).sum::<u64>());
        std::thread::sleep(Duration::from_millis(4));
    }
    peak
}

/// `VmHWM` in KiB; `None` when the process has ended.
fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let status = status.ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The middle one of `values`, or the mean of the middle two; 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => 0.0,
        (Some(high), 0) => sorted
            .get(middle - 1)
            .map_or(*high, |low| f64::midpoint(*low, *high)),
        (Some(value), _) => *value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_few_values() {
        for (values, expected) in [
            (&[][..], 0.0),
            (&[3.0], 3.0),
            (&[4.0, 1.0], 2.5),
            (&[9.0, 1.0, 2.0], 2.0),
        ] {
            assert!((median(values) - expected).abs() < 1e-9, "{values:?}");
        }
    }

    #[test]
    fn commands_run_at_once() {
        let sleep = Run::new("sleep").arg("0.5");
        let taken = at_once(&[sleep.clone(), sleep.clone(), sleep], false).unwrap();
        assert!((0.5..1.4).contains(&taken.seconds), "{taken:?}");
        let failing = [Run::new("true"), Run::new("false")];
        assert!(at_once(&failing, false).is_err());
    }

    #[test]
    fn a_failing_command_is_an_error_with_its_words() {
        let run = Run::new("sh").args(["-c", "echo no >&2; exit 3"]);
        let text = timed(&run, false).unwrap_err().to_string();
        assert!(
            text.contains("exit status: 3") && text.contains("no"),
            "{text}"
        );
    }
}

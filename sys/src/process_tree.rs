//! A process and all below it: what it has done so far, and its end.

use rustix::process::{Pid, Signal, kill_process_group};

/// What a process has done, with all that it has started, those that have ended among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes that went through calls that read, from files, pipes and sockets (`rchar` of proc(5)).
    pub read: u64,
    /// Bytes that went through calls that write (`wchar`).
    pub written: u64,
    /// Processor time, in ticks of which there are a hundred in a second.
    pub ticks: u64,
}

/// What the process `pid` and all below it have done. What cannot be read counts as nothing: it has
/// just ended, and its parent tells of it from now on.
#[must_use]
pub fn work_of(pid: u32) -> Work {
    let mut sum = Work::default();
    let mut left = vec![pid];
    while let Some(pid) = left.pop() {
        sum.add(pid);
        left.extend(children(pid));
    }
    sum
}

impl Work {
    fn add(&mut self, pid: u32) {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let count = |name: &str| -> u64 {
            let number = io.lines().find_map(|line| line.strip_prefix(name));
            number.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
        };
        self.read += count("rchar:");
        self.written += count("wchar:");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A command's name may have anything in it, a parenthesis too.
        let Some((_, fields)) = stat.rsplit_once(") ") else {
            return;
        };
        // utime, stime, and those of children that were waited for: fields 14 to 17, of which the
        // third is the first here.
        let times = fields.split(' ').skip(11).take(4);
        self.ticks += times.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids = lists.flat_map(|list| {
        let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.collect::<Vec<u32>>()
    });
    pids.collect()
}

/// Kills the process group that `leader` leads and has not been waited for yet.
pub fn kill_group(leader: u32) {
    let pid = i32::try_from(leader).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // There may be nobody left.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_a_tree_of_processes_does_is_counted_and_ended() {
        // The grandchild works; a child that has ended has worked, too.
        let script = "head -c 3000000 /dev/zero | cat > /dev/null; sh -c 'head -c 5000000 /dev/zero > /dev/null; sleep 1000' & wait";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .process_group(0)
            .spawn()
            .unwrap();
        let mut work = Work::default();
        // A busy machine may need a minute for it.
        for _ in 0..12_000 {
            let now = work_of(child.id());
            assert!(
                now.read >= work.read && now.written >= work.written,
                "{now:?}"
            );
            work = now;
            if work.read >= 11_000_000 && work.written >= 11_000_000 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(
            work.read >= 11_000_000 && work.read < 12_000_000,
            "{work:?}"
        );
        let (shell, sleeps) = (child.id(), children(child.id()));
        assert!(!sleeps.is_empty());
        kill_group(shell);
        child.wait().unwrap();
        for _ in 0..1000 {
            if children(sleeps[0]).is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("it still runs");
    }
}

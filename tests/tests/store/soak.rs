//! Many workers do everything that changes a store, at once, for `KILN_TEST_SOAK` seconds.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic is how a test reports, and its figures are told"
)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use kiln_tests::{Built, Context, Kiln, Lab, Output, Random};
use nix::sys::signal::Signal;

/// Seconds unless `KILN_TEST_SOAK` says another number.
const SECONDS: u64 = 15;
const WORKERS: u64 = 32;
/// Kinds of Dockerfiles, which share some of their steps, and values of their argument.
const KINDS: u64 = 8;
const VALUES: u64 = 12;

fn dockerfile(kind: u64) -> String {
    format!(
        "FROM busybox AS base\nRUN echo shared > /shared\nCOPY common /common\n\
         FROM base AS left\nRUN mkdir /d && for i in 1 2 3 4 5 6 7 8; do echo {} $i > /d/$i; done\n\
         FROM base AS right\nARG N\nRUN --mount=type=cache,target=/c echo {} $N > /right; echo x >> /c/log\n\
         FROM busybox\nARG N\nCOPY --from=left /d /d\nCOPY --from=right /right /\n\
         RUN --mount=type=bind,target=/m cat /m/common /right > /both; echo {kind} $N >> /both\n\
         RUN rm -r /d && mkdir /d && ln /both /d/both\n",
        kind / 4,
        kind % 2
    )
}

/// An image's id, once somebody has built it.
type Id = Arc<OnceLock<String>>;

/// What all workers share.
struct Soak {
    lab: Lab,
    /// A store that only gets builds without a cache: what ids are right.
    clean: Lab,
    contexts: Vec<Context>,
    right: Mutex<HashMap<(u64, u64), Id>>,
    done: Mutex<HashMap<&'static str, u64>>,
    compared: AtomicU64,
    wrong: Mutex<Vec<String>>,
    until: Instant,
}

impl Soak {
    fn build(&self, lab: &Lab, kind: u64, value: u64) -> Kiln {
        lab.build(&self.contexts[usize::try_from(kind).unwrap()])
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .arg(format!("--build-arg=N={value}"))
            .tag(&format!("x{kind}"))
    }

    fn right_id(&self, kind: u64, value: u64) -> String {
        let cell = Arc::clone(self.right.lock().unwrap().entry((kind, value)).or_default());
        let id = cell.get_or_init(|| {
            let build = self.build(&self.clean, kind, value);
            build.arg("--no-cache").built().image
        });
        id.clone()
    }

    fn wrong(&self, what: &str, out: &Output) {
        self.wrong.lock().unwrap().push(format!("{what}: {out}"));
    }

    /// It ends well, or it fails because the image is not there at this moment.
    fn passes(&self, what: &'static str, out: &Output) -> bool {
        let absent = ["no image `x", "cannot find `x"];
        if out.succeeded() {
            return true;
        }
        if !absent.iter().any(|words| out.err.contains(words)) {
            self.wrong(what, out);
        }
        false
    }

    /// Does one thing; tells what.
    fn step(&self, worker: u64, random: &mut Random) -> &'static str {
        let (kind, value) = (random.below(KINDS), random.below(VALUES));
        let name = format!("x{kind}");
        match random.below(100) {
            0..50 => {
                let mut build = self.build(&self.lab, kind, value);
                if random.below(20) == 0 {
                    build = build.arg("--no-cache");
                }
                let out = build.output();
                if !out.succeeded() {
                    self.wrong("build", &out);
                } else if Built::of(&out).image != self.right_id(kind, value) {
                    self.wrong("another id", &out);
                }
                self.compared.fetch_add(1, Ordering::Relaxed);
                "build"
            }
            50..65 => {
                let run = self.build(&self.lab, kind, value).arg("--no-cache").start();
                std::thread::sleep(Duration::from_millis(random.below(1500)));
                run.signal(Signal::SIGKILL);
                run.wait();
                "kill"
            }
            65..72 => {
                let run = self.build(&self.lab, kind, value).start();
                std::thread::sleep(Duration::from_millis(random.below(1000)));
                run.signal(Signal::SIGINT);
                let out = run.wait();
                if !out.succeeded() && !matches!(out.code(), None | Some(130)) {
                    self.wrong("interrupt", &out);
                }
                "interrupt"
            }
            72..77 => {
                self.passes("prune", &self.lab.kiln(["prune", "-f"]).output());
                "prune"
            }
            77..79 => {
                let out = self.lab.kiln(["prune", "-f", "--all"]).output();
                self.passes("prune --all", &out);
                "prune --all"
            }
            79..82 => {
                self.passes("rmi", &self.lab.kiln(["rmi", "-f", &name]).output());
                "rmi"
            }
            82..87 => {
                let archive: PathBuf = self.lab.path(&format!("archive-{worker}.tar"));
                let save = self.lab.kiln(["save", &name, "-o"]).arg(&archive);
                if self.passes("save", &save.output()) {
                    let out = self.lab.kiln(["load", "-i"]).arg(&archive).output();
                    self.passes("load", &out);
                    std::fs::remove_file(&archive).unwrap();
                }
                "save and load"
            }
            87..92 => {
                let run = self.lab.kiln(["run", "--rm", "--pull", "never"]);
                let run = run.args(["--network", "none", &name, "cat", "/both"]);
                let out = run.output();
                if self.passes("run", &out) {
                    let text = out.stdout();
                    let value = text.rsplit(' ').next().unwrap();
                    let right = format!("common\n{} {value}\n{kind} {value}", kind % 2);
                    if text != right {
                        self.wrong("run", &out);
                    }
                }
                "run"
            }
            92..95 => {
                self.passes("images", &self.lab.kiln(["images"]).output());
                self.passes("system df", &self.lab.kiln(["system", "df"]).output());
                "list"
            }
            95..97 => {
                self.passes("pull", &self.lab.kiln(["pull", "-q", "busybox"]).output());
                "pull"
            }
            _ => {
                self.passes("fsck", &self.lab.kiln(["fsck"]).output());
                "fsck"
            }
        }
    }

    fn work(&self, worker: u64, mut random: Random) {
        while Instant::now() < self.until {
            let what = self.step(worker, &mut random);
            *self.done.lock().unwrap().entry(what).or_default() += 1;
        }
    }
}

/// The most that one process of the store had at a time: memory in kB, open files.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    memory: u64,
    files: u64,
}

/// Looks at all processes of the store until told to stop; one peak for each sixth of the time.
fn watch(store: &str, length: Duration, stop: &AtomicBool) -> Vec<Peak> {
    let started = Instant::now();
    let mut peaks = vec![Peak::default(); 6];
    while !stop.load(Ordering::Relaxed) {
        let sixth = started.elapsed().as_nanos() * 6 / length.as_nanos().max(1);
        let peak = &mut peaks[usize::try_from(sixth).unwrap().min(5)];
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let dir = entry.path();
            let Ok(command) = std::fs::read(dir.join("cmdline")) else {
                continue;
            };
            if !command.windows(4).any(|w| w == b"kiln") {
                continue;
            }
            let environ = std::fs::read(dir.join("environ")).unwrap_or_default();
            if !String::from_utf8_lossy(&environ).contains(store) {
                continue;
            }
            let status = std::fs::read_to_string(dir.join("status")).unwrap_or_default();
            let memory = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let memory = memory.and_then(|m| m.trim().trim_end_matches(" kB").parse().ok());
            peak.memory = peak.memory.max(memory.unwrap_or(0));
            let files = std::fs::read_dir(dir.join("fd")).map_or(0, Iterator::count);
            peak.files = peak.files.max(files as u64);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    peaks
}

#[test]
fn alone_nothing_is_wrong_lost_or_left_when_everything_happens_at_once() {
    let seconds = std::env::var("KILN_TEST_SOAK").map_or(SECONDS, |n| n.parse().unwrap());
    let length = Duration::from_secs(seconds);
    let lab = Lab::new();
    let contexts = (0..KINDS).map(|kind| {
        let files = [("Dockerfile", &*dockerfile(kind)), ("common", "common\n")];
        lab.context(&format!("c{kind}"), &files)
    });
    let soak = Soak {
        contexts: contexts.collect(),
        clean: Lab::new(),
        right: Mutex::default(),
        done: Mutex::default(),
        compared: AtomicU64::new(0),
        wrong: Mutex::default(),
        until: Instant::now() + length,
        lab,
    };
    let store = soak.lab.store().to_string_lossy().into_owned();
    let stop = AtomicBool::new(false);
    let mut seeds = Random::new();
    let peaks = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&store, length, &stop));
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let random = Random::of(seeds.number());
                let soak = &soak;
                scope.spawn(move || soak.work(worker, random))
            })
            .collect();
        let ends: Vec<_> = workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        stop.store(true, Ordering::Relaxed);
        let failed = ends.into_iter().find_map(Result::err);
        assert!(failed.is_none(), "a worker failed: see above");
        watcher.join().unwrap()
    });
    let mut done: Vec<_> = soak.done.lock().unwrap().clone().into_iter().collect();
    done.sort_unstable();
    let compared = soak.compared.load(Ordering::Relaxed);
    eprintln!("{seconds} s: {done:?}; {compared} builds compared; {peaks:?}");
    let wrong = soak.wrong.lock().unwrap();
    assert!(
        wrong.is_empty(),
        "{} wrong: {}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(compared > 0);
    // Processes are as large at the end as at the beginning, and so is the store when all is taken.
    let (first, last) = (peaks[0], peaks[5]);
    assert!(last.files <= first.files + 64, "{peaks:?}");
    assert!(last.memory <= first.memory * 2 + 20_000, "{peaks:?}");
    soak.lab.kiln(["fsck"]).output().ok();
    let names = (0..KINDS).map(|kind| format!("x{kind}"));
    soak.lab
        .kiln(["rmi", "-f", "busybox"])
        .args(names)
        .output()
        .orderly();
    soak.lab.kiln(["image", "prune", "-af"]).output().ok();
    soak.lab.kiln(["prune", "-f", "--all"]).output().ok();
    soak.lab.assert_clean();
    let layers = std::fs::read_dir(soak.lab.store().join("layers-v1"));
    let names = layers.unwrap().map(|entry| entry.unwrap().file_name());
    // The one that every store has: empty directories for what is mounted into any image.
    let left: Vec<_> = names.filter(|name| name != "mountpoints").collect();
    assert!(left.is_empty(), "{left:?}");
}

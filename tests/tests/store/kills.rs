//! Kiln is killed in any command, and the power fails during builds.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic is how a test reports, and how many kills there were is told"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kiln_tests::{Context, Kiln, Lab, Random, tool};
use nix::sys::signal::Signal;

const DOCKERFILE: &str = "FROM busybox AS a\nARG N\nRUN echo $N > /n; head -c 300000 /dev/zero > /zero\nCOPY f /f\nFROM busybox\nRUN --mount=type=cache,target=/c echo x >> /c/log; echo c > /c-done\nCOPY --from=a /n /f /zero /\nRUN cat /n /f > /both\n";

/// Rounds of each test: `KILN_TEST_ROUNDS`, or this many.
fn rounds(default: u32) -> u32 {
    std::env::var("KILN_TEST_ROUNDS").map_or(default, |n| n.parse().unwrap())
}

fn context(lab: &Lab) -> Context {
    lab.context("context", &[("f", "content"), ("Dockerfile", DOCKERFILE)])
}

fn build(lab: &Lab, context: &Context, n: u32) -> Kiln {
    lab.build(context)
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .arg(format!("--build-arg=N={n}"))
        .tag("x")
}

/// A command by its kind; it gets the number of the round.
type Killed<'a> = (&'static str, &'a dyn Fn(u32) -> Kiln);

/// Kills each command at `rounds` moments spread over its length, while it runs; then the store is
/// whole, the command passes, and a build gives what it always gave. Tells how many kills there were.
fn kill_all(lab: &Lab, context: &Context, rounds: u32, commands: &[Killed<'_>]) {
    let expected = build(lab, context, 0).built().image;
    let mut random = Random::new();
    let mut points = Vec::new();
    for (name, command) in commands {
        let mut hits = 0;
        for round in 0..rounds {
            let delay = kill(lab, context, round, *command, &mut random);
            let Some(delay) = delay else {
                panic!("{name} ends faster than it can be killed");
            };
            hits += 1;
            let case = format!("{name} killed after {delay:?}");
            let check = lab.kiln(["fsck"]).output();
            assert_eq!(check.code(), Some(0), "{case}: {check}");
            let again = command(round).output();
            assert_eq!(again.code(), Some(0), "{case}: {again}");
            let built = build(lab, context, 0).built();
            assert_eq!(built.image, expected, "{case}");
            assert_eq!(lab.run("x", &["cat", "/both"]), "0\ncontent", "{case}");
        }
        points.push((*name, hits));
    }
    let all: u32 = points.iter().map(|p| p.1).sum();
    let each = points.iter().map(|(name, n)| format!("{name} {n}"));
    let each = each.collect::<Vec<_>>().join(", ");
    eprintln!("killed at {all} points: {each}");
    // What killed processes left is taken by the upkeep of any other.
    lab.kiln(["prune", "-f"]).output().ok();
    lab.assert_clean();
}

/// Starts a command and kills it. A kill that comes too late is none: then it is done again with
/// another delay. Returns the delay; none if all were too long.
fn kill(
    lab: &Lab,
    context: &Context,
    round: u32,
    command: &dyn Fn(u32) -> Kiln,
    random: &mut Random,
) -> Option<Duration> {
    // How long it takes where there is something to do.
    build(lab, context, round).built();
    let wall = command(round).output().wall;
    let mut micros = u64::try_from(wall.as_micros()).unwrap();
    for _ in 0..20 {
        build(lab, context, round).built();
        let delay = Duration::from_micros(random.below(micros.max(1)));
        let victim = command(round).start();
        std::thread::sleep(delay);
        victim.signal(Signal::SIGKILL);
        if victim.wait().code().is_none() {
            return Some(delay);
        }
        // It was faster this time.
        micros = micros * 9 / 10;
    }
    None
}

/// `KILN_TEST_ROUNDS` points in each of four kinds of command: 125 make 500 in all.
#[test]
fn a_kill_in_build_export_prune_or_pull_does_no_harm() {
    let lab = Lab::new();
    let context = context(&lab);
    build(&lab, &context, 0).built();
    let export = |round: u32| match round % 2 {
        0 => build(&lab, &context, round)
            .arg("-o")
            .arg(format!("type=oci,dest={}", lab.path("out.tar").display())),
        _ => lab.kiln(["save", "x", "-o"]).arg(lab.path("y.tar")),
    };
    let commands: [Killed<'_>; 4] = [
        ("build", &|_| build(&lab, &context, 0).arg("--no-cache")),
        ("export", &export),
        ("prune", &|_| lab.kiln(["prune", "-f", "--all"])),
        ("pull", &|_| lab.kiln(["pull", "busybox"])),
    ];
    kill_all(&lab, &context, rounds(4), &commands);
}

/// The other commands that write to the store.
#[test]
fn a_kill_in_load_rmi_or_fsck_does_no_harm() {
    let lab = Lab::new();
    let context = context(&lab);
    build(&lab, &context, 0).built();
    let archive = lab.path("x.tar");
    lab.kiln(["save", "x", "-o"]).arg(&archive).output().ok();
    let commands: [Killed<'_>; 3] = [
        ("load", &|_| lab.kiln(["load", "-i"]).arg(&archive)),
        ("rmi", &|_| lab.kiln(["rmi", "-f", "x", "busybox"])),
        ("fsck", &|_| lab.kiln(["fsck", "--repair"])),
    ];
    kill_all(&lab, &context, rounds(4), &commands);
}

/// A file system of its own, in a file.
struct Disk {
    image: PathBuf,
    at: PathBuf,
    /// The disk that holds the image, where the file system itself knows no way to be cut off.
    below: Option<Box<Disk>>,
}

impl Disk {
    fn new(lab: &Lab, kind: &str) -> Self {
        // On a file system that is cut off, what the one in it had flushed is there, and nothing else:
        // a disk with a cache of its own.
        let below = (kind == "btrfs").then(|| Self::with(lab, "ext4", "below", "900M", None));
        Self::with(lab, kind, "disk", "320M", below.map(Box::new))
    }

    fn with(lab: &Lab, kind: &str, name: &str, size: &str, below: Option<Box<Self>>) -> Self {
        let at = lab.path(name);
        let folder = below.as_ref().map_or(lab.dir(), |below| &below.at);
        let image = folder.join(format!("{name}.img"));
        std::fs::create_dir(&at).unwrap();
        // XFS does not do with less.
        tool("truncate", ["-s", size, image.to_str().unwrap()]);
        let force = if kind == "ext4" { "-F" } else { "-f" };
        tool(
            &format!("mkfs.{kind}"),
            ["-q", force, image.to_str().unwrap()],
        );
        let disk = Self { image, at, below };
        disk.mount_itself();
        disk
    }

    fn mount(&self) {
        if let Some(below) = &self.below {
            below.mount();
        }
        self.mount_itself();
    }

    fn mount_itself(&self) {
        let (image, at) = (self.image.to_str().unwrap(), self.at.to_str().unwrap());
        for _ in 0..200 {
            tool("mount", ["-o", "loop", image, at]);
            // A mount namespace of another process may still hold the file system of before the cut:
            // then this has come back.
            let probe = self.at.join("probe");
            if std::fs::write(&probe, "").is_ok() {
                std::fs::remove_file(probe).unwrap();
                return;
            }
            self.unmount_itself();
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("`{at}` does not come back");
    }

    fn unmount(&self) {
        self.unmount_itself();
        if let Some(below) = &self.below {
            below.unmount();
        }
    }

    fn unmount_itself(&self) {
        for _ in 0..200 {
            let done = Command::new("umount").arg(&self.at).output().unwrap();
            if done.status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("`{}` stays busy", self.at.display());
    }

    /// The power fails: from now on nothing reaches the disk, not even the journal.
    fn cut(&self) {
        if let Some(below) = &self.below {
            return below.cut();
        }
        // FS_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, which XFS has by the same numbers.
        let script = "open(my $f, '<', $ARGV[0]) or die; my $how = pack('L', 2);\
                      ioctl($f, 0x8004587d, $how) or die $!;";
        tool("perl", ["-e", script, self.at.to_str().unwrap()]);
    }

    /// Ends all that runs with this store, as a power cut does.
    fn kill_users(&self) {
        let wanted = format!("KILN_ROOT={}", self.store().display());
        for _ in 0..50 {
            let mut any = false;
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
                if environ.split(|b| *b == 0).any(|v| v == wanted.as_bytes())
                    && let Ok(pid) = entry.file_name().to_string_lossy().parse()
                {
                    any = true;
                    let _ =
                        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            if !any {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn store(&self) -> PathBuf {
        self.at.join("store")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        } else {
            self.unmount_itself();
        }
    }
}

/// The command as it would run after the `number`th start of the machine: with a boot id of that
/// start, in a mount namespace of its own.
fn after_boot(lab: &Lab, number: u32, store: &Path, arguments: &[&str]) -> Command {
    let id = lab.path(&format!("boot-{number}"));
    // Written once: what a process of this start still reads must not be empty for a moment.
    if !id.exists() {
        std::fs::write(&id, format!("00000000-0000-4000-8000-{number:012}\n")).unwrap();
    }
    let script = r#"mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script])
        .arg(id)
        .arg(kiln_tests::setting("KILN_TEST_BIN"))
        .args(arguments)
        .env("KILN_ROOT", store)
        .env("KILN_CONFIG", kiln_tests::setting("KILN_TEST_CONFIG"))
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .env("HOME", lab.path("home"))
        .current_dir(lab.dir());
    command
}

fn succeeds(mut command: Command, case: &str) -> String {
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let found = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{case}: {command:?}\n{found}{text}");
    found
}

/// The power fails at moments spread over builds. After the next start the store opens, what was
/// not surely on the disk is forgotten, everything that is left is whole, and a build gives the same.
fn cut_power(kind: &str) {
    let lab = Lab::new();
    let context = context(&lab);
    let dir = context.path().to_str().unwrap().to_owned();
    let disk = Disk::new(&lab, kind);
    let store = disk.store();
    let build = |boot: u32, n: u32| {
        let n = format!("--build-arg=N={n}");
        after_boot(&lab, boot, &store, &["build", "-q", "-t", "x", &n, &dir])
    };
    let expected = succeeds(build(0, 0), "first");
    let started = std::time::Instant::now();
    succeeds(build(0, 1000), "second");
    let wall = u64::try_from(started.elapsed().as_micros()).unwrap();
    let mut random = Random::new();
    for round in 1..=rounds(8) {
        let mut victim = build(round, round);
        let mut victim = victim.stderr(std::process::Stdio::null()).spawn().unwrap();
        // Beyond its end too: then the upkeep is at work.
        let delay = Duration::from_micros(random.below(wall * 3 / 2));
        std::thread::sleep(delay);
        disk.cut();
        let _ = victim.kill();
        victim.wait().unwrap();
        disk.kill_users();
        disk.unmount();
        disk.mount();
        let case = format!("power cut {round} after {delay:?}");
        let boot = 1000 + round;
        succeeds(after_boot(&lab, boot, &store, &["fsck"]), &case);
        assert_eq!(succeeds(build(boot, 0), &case), expected, "{case}");
        let run = ["run", "--rm", "--network", "none", "x", "cat", "/both"];
        assert_eq!(
            succeeds(after_boot(&lab, boot, &store, &run), &case),
            "0\ncontent"
        );
        succeeds(after_boot(&lab, boot, &store, &["fsck"]), &case);
    }
    disk.kill_users();
}

#[test]
fn a_power_cut_costs_time_only() {
    cut_power("ext4");
}

#[test]
fn a_power_cut_costs_time_only_on_xfs() {
    cut_power("xfs");
}

#[test]
fn a_power_cut_costs_time_only_on_btrfs() {
    cut_power("btrfs");
}

/// What a supervisor has done to signals for itself is no matter for what it starts; what a user ignores on
/// purpose stays ignored.
#[test]
fn signals_are_as_usual_whatever_the_parent_did_to_them() {
    const BLOCKED: &str = "exec python3 -c 'import os, signal, sys\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))\n\
        os.execvp(sys.argv[1], sys.argv[1:])' \"$@\"";
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN echo fine && kill -l > /dev/null\n");
    for script in ["trap '' CHLD TERM XFSZ PIPE; exec \"$@\"", BLOCKED] {
        lab.build(&context)
            .arg("--no-cache")
            .through(script)
            .built();
        lab.kiln(["run", "--rm", "--network", "none", "busybox", "true"])
            .through(script)
            .output()
            .ok();
    }
    let sleeps = lab.dockerfile("FROM busybox\nRUN echo begun; sleep 1000\n");
    let started = |script: &str| {
        let log = lab.path("log");
        let _ = std::fs::remove_file(&log);
        let script = format!("exec 2> {}; {script}", log.display());
        let build = lab.build(&sleeps).through(&script).start();
        while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("\"text\":\"begun")) {
            std::thread::sleep(Duration::from_millis(5));
        }
        build
    };
    let build = started(BLOCKED);
    build.signal(Signal::SIGTERM);
    assert_eq!(build.wait().code(), Some(130));
    let mut build = started("trap '' HUP; exec \"$@\"");
    build.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(build.is_running(), "nohup keeps it");
    build.signal(Signal::SIGTERM);
    assert_eq!(build.wait().code(), Some(130));
}

#[test]
fn a_limit_of_file_sizes_is_an_error_that_names_the_file() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nCOPY large /\n");
    context.write("large", vec![7; 4 << 20]);
    lab.build(&lab.dockerfile("FROM busybox\nRUN true\n"))
        .built();
    let out = lab.path("out.tar");
    let build = lab
        .build(&context)
        .args(["-o", &format!("type=oci,dest={}", out.display())])
        .after("ulimit -f 2048")
        .fails();
    assert_eq!(build.code(), Some(1));
    build.says(&["File too large", "large"]);
}

/// Groups of control outlive those who made them; whoever comes next removes them.
#[test]
fn groups_of_killed_processes_are_swept() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN sleep 1000\n");
    for _ in 0..2 {
        let parent = format!("/kiln-test-{}", std::process::id());
        let builds = [&["--progress=plain"][..], &["--cgroup-parent", &parent]]
            .map(|more| lab.build(&context).arg("--no-cache").args(more).start());
        // Both steps are in groups of their own.
        for _ in 0..1000 {
            let lists = std::fs::read_dir("/run/kiln/cgroups").unwrap().flatten();
            let lists = lists.filter_map(|list| std::fs::read_to_string(list.path()).ok());
            let noted = lists.filter(|list| list.contains(&parent) || list.contains("kiln-lab-"));
            if noted.count() >= 2 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(200));
        lab.kill_all();
        for build in builds {
            build.wait();
        }
    }
    lab.kiln(["run", "--rm", "--network", "none", "busybox", "true"])
        .output()
        .ok();
    lab.assert_clean();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    for line in mounts.lines().filter(|line| line.contains(" cgroup")) {
        let at = line.split(' ').nth(1).unwrap();
        let parent = format!("{at}/kiln-test-{}", std::process::id());
        assert!(!Path::new(&parent).exists(), "{parent}");
    }
}

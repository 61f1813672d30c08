//! System calls fail or are slow, one at a time, in kiln and in all that it starts.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic is how a test reports, and how many cases there were is told"
)]

use kiln_tests::{Context, Kiln, Lab, Random};

/// Its commands fail where a part of them does: else what they leave out would be their result. (`head` of
/// busybox ends with 0 where its last write fails.)
const DOCKERFILE: &str = "FROM busybox AS a\nARG N\nRUN echo $N > /n && dd if=/dev/zero of=/zero bs=30000 count=10 2> /dev/null\nCOPY f /f\nFROM busybox\nRUN --mount=type=cache,target=/c echo x >> /c/log && echo c > /c-done\nCOPY --from=a /n /f /zero /\nRUN cat /n /f > /both\n";

/// Calls without which no program of this kind starts or goes on: the C library or Rust's ends the
/// process where one of them fails, by a panic or a signal, too: what is left of the store counts all the same.
const VITAL: &[&str] = &[
    "arch_prctl",
    "brk",
    "clone",
    "clone3",
    "futex",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "poll",
    "prlimit64",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
];

/// Those that strace cannot have fail: they do not return, or are its own way in.
const NOT_INJECTED: &[&str] = &["execve", "exit", "exit_group", "rt_sigreturn", "vfork"];

/// How `call` may fail on a machine that works; the last one is that it is slow.
fn faults(call: &str) -> &'static [&'static str] {
    const SLOW: &str = "delay_enter=200000";
    match call {
        "open" | "openat" | "openat2" | "memfd_create" => {
            &["error=EMFILE", "error=EACCES", "error=EIO", SLOW]
        }
        "pipe2" | "socket" | "socketpair" | "dup" | "dup3" | "epoll_create1" | "eventfd2"
        | "accept4" | "pidfd_open" | "fsopen" | "fsmount" | "open_tree" => {
            &["error=EMFILE", "error=ENOMEM", SLOW]
        }
        "write" | "writev" | "pwrite64" | "fallocate" | "ftruncate" | "copy_file_range"
        | "mkdirat" | "mkdir" | "linkat" | "symlinkat" | "renameat2" | "rename" | "fsync"
        | "fdatasync" | "syncfs" => &["error=ENOSPC", "error=EIO", "error=EDQUOT", SLOW],
        "read" | "readv" | "pread64" | "recvmsg" | "recvfrom" | "waitid" | "wait4"
        | "epoll_wait" | "ppoll" | "fcntl" | "flock" => &["error=EINTR", "error=EIO", SLOW],
        "clone" | "clone3" | "unshare" => &["error=EAGAIN", "error=ENOSPC", SLOW],
        "mmap" | "brk" | "mremap" => &["error=ENOMEM", SLOW],
        // The kernel refuses none but by mistakes of the caller, and threads that wait would wait for ever.
        "futex" => &[SLOW],
        // They always succeed, as their pages of the manual say.
        "umask" | "getpid" | "gettid" | "getppid" | "getuid" | "geteuid" | "getgid" | "getegid"
        | "sched_yield" => &[SLOW],
        "mount" | "fsconfig" | "move_mount" | "mount_setattr" | "umount2" | "pivot_root"
        | "setns" => &["error=EPERM", "error=EBUSY", "error=ENOMEM", SLOW],
        "connect" | "sendmsg" | "sendto" => &["error=ECONNRESET", "error=ENOBUFS", SLOW],
        _ => &["error=EIO", "error=EPERM", SLOW],
    }
}

fn build(lab: &Lab, context: &Context, n: u32) -> Kiln {
    lab.build(context)
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .arg(format!("--build-arg=N={n}"))
        .tag("x")
}

/// The calls of a command with all that it starts, and how many there are of each.
fn calls(lab: &Lab, command: Kiln) -> Vec<(String, u64)> {
    let table = lab.path("calls");
    let script = format!(
        "exec strace -f -qq -c -U name,calls -o {} \"$@\"",
        table.display()
    );
    command.through(&script).output().ok();
    let text = std::fs::read_to_string(&table).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, count) = (words.next()?, words.next()?.parse().ok()?);
        (name != "total" && !NOT_INJECTED.contains(&name)).then(|| (name.to_owned(), count))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 20, "{text}");
    rows
}

/// A command by its name, and what makes sure that there is something to do for it.
type Command<'a> = (&'static str, &'a dyn Fn() -> Kiln);

/// So many cases of each command; `KILN_TEST_FAULTS` says how many, that it is all, or that each call fails
/// once and is slow once.
fn cases(calls: &[(String, u64)], random: &mut Random) -> Vec<(String, &'static str, u64)> {
    let mut all = Vec::new();
    for (call, count) in calls {
        for fault in faults(call) {
            let mut places = vec![1, count.div_ceil(2), *count];
            places.dedup();
            all.extend(places.iter().map(|at| (call.clone(), *fault, *at)));
        }
    }
    let wanted = match std::env::var("KILN_TEST_FAULTS").as_deref() {
        Ok("all") => return all,
        Ok("each") => {
            let once = calls.iter().flat_map(|(call, count)| {
                let faults = faults(call);
                let ends = [faults.first(), faults.last()].into_iter().flatten();
                ends.map(|fault| (call.clone(), *fault, count.div_ceil(2)))
            });
            return once.collect();
        }
        Ok(number) => number.parse().unwrap(),
        Err(_) => 12,
    };
    let any = (0..wanted).map(|_| {
        let index = usize::try_from(random.below(all.len() as u64)).unwrap();
        all[index].clone()
    });
    any.collect()
}

#[test]
fn whatever_call_fails_the_store_is_whole_and_the_next_build_right() {
    let lab = Lab::new();
    let files = [("f", "content"), ("Dockerfile", DOCKERFILE)];
    let context = lab.context("context", &files);
    let expected = build(&lab, &context, 0).built().image;
    let archive = lab.path("x.tar");
    lab.kiln(["save", "x", "-o"]).arg(&archive).output().ok();
    let commands: [Command<'_>; 6] = [
        ("build", &|| build(&lab, &context, 0).arg("--no-cache")),
        ("pull", &|| lab.kiln(["pull", "busybox"])),
        ("prune", &|| lab.kiln(["prune", "-f", "--all"])),
        ("run", &|| {
            lab.kiln(["run", "--rm", "--network", "none", "x", "cat", "/both"])
        }),
        ("save", &|| {
            lab.kiln(["save", "x", "-o"]).arg(lab.path("y.tar"))
        }),
        ("load", &|| lab.kiln(["load", "-i"]).arg(&archive)),
    ];
    let mut random = Random::new();
    let mut wrong = Vec::new();
    let mut is_wrong = |text: String| {
        eprintln!("{text}");
        wrong.push(text);
    };
    for (name, command) in commands {
        build(&lab, &context, 0).built();
        let cases = cases(&calls(&lab, command()), &mut random);
        let number = cases.len();
        for (call, fault, at) in cases {
            if name == "prune" || name == "pull" {
                build(&lab, &context, 1).built();
            }
            let script = format!(
                "exec strace -f --seccomp-bpf -qq -o /dev/null -e trace={call} \
                 -e inject={call}:{fault}:when={at} \"$@\""
            );
            let case = format!("{name}: {call} {fault} at {at}");
            let out = command().through(&script).output();
            let panicked = ["panicked at", "internal error"];
            let is_vital = VITAL.contains(&&*call);
            if !is_vital && panicked.iter().any(|words| out.err.contains(words)) {
                is_wrong(format!("{case}: {out}"));
            }
            // A shell tells the end of its child by a signal with 128 and more.
            let code = out.code().unwrap_or(255);
            if code >= 128 && code != 130 && !is_vital {
                is_wrong(format!("{case}: {out}"));
            }
            let check = lab.kiln(["fsck"]).output();
            if !check.succeeded() {
                is_wrong(format!("{case}: {check}"));
                lab.kiln(["fsck", "--repair"]).output();
            }
            let again = build(&lab, &context, 0).output();
            if !again.succeeded() || kiln_tests::Built::of(&again).image != expected {
                is_wrong(format!("{case}: {again}"));
            }
        }
        eprintln!("{name}: {number} cases");
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    lab.kiln(["prune", "-f"]).output().ok();
}

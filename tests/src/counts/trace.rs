//! Reading what `strace` writes.

use std::collections::{BTreeMap, BTreeSet};

use super::{BYTES_READ, BYTES_WRITTEN, COUNTED, Counts};
use crate::maintenance::MAINTENANCE;

/// The options of `strace`: all that a command starts, regular files by their paths, words of command lines
/// as long as those that are looked for. Where a call is no longer than its line, it is on one.
pub(super) fn options() -> Vec<String> {
    let calls: Vec<&str> = COUNTED
        .iter()
        .flat_map(|(_, calls)| calls.iter().copied())
        .collect();
    let mut options: Vec<String> = ["-f", "--seccomp-bpf", "-qq", "-y", "-s", "32"]
        .map(str::to_owned)
        .to_vec();
    // A kernel or a `strace` that does not know a call has none of it.
    let known: Vec<String> = calls.iter().map(|call| format!("?{call}")).collect();
    options.extend(["-e".to_owned(), format!("trace={}", known.join(","))]);
    options.extend(["-e".to_owned(), "signal=none".to_owned()]);
    options
}

/// A call of a process.
struct Call<'a> {
    process: &'a str,
    name: &'a str,
    /// As far as they are shown.
    arguments: String,
    result: &'a str,
}

/// Counts the calls of a trace, without those of the maintenance.
pub(super) fn count(trace: &str) -> Counts {
    let calls = calls(trace);
    let ignored = ignored(&calls);
    let mut counts: Counts = COUNTED.iter().map(|(kind, _)| (*kind, 0)).collect();
    counts.extend([(BYTES_READ, 0), (BYTES_WRITTEN, 0)]);
    for (at, call) in calls.iter().enumerate() {
        let is_ignored = ignored.get(call.process).is_some_and(|from| at >= *from);
        let Some(kind) = kind_of(call).filter(|_| !is_ignored) else {
            continue;
        };
        *counts.entry(kind).or_default() += 1;
        let bytes = call.result.parse().unwrap_or(0);
        match kind {
            "reads" => *counts.entry(BYTES_READ).or_default() += bytes,
            "writes" => *counts.entry(BYTES_WRITTEN).or_default() += bytes,
            _ => {}
        }
    }
    counts
}

/// What a call counts as, if it does.
fn kind_of(call: &Call<'_>) -> Option<&'static str> {
    let of_name = |(_, calls): &&(&str, &[&str])| calls.contains(&call.name);
    let (kind, _) = COUNTED.iter().find(of_name)?;
    let counts = match *kind {
        "reads" | "writes" => is_on_file(&call.arguments),
        "locks" => call.name == "flock" || call.arguments.contains("LK"),
        "processes" => !call.arguments.contains("CLONE_THREAD"),
        _ => true,
    };
    counts.then_some(*kind)
}

/// Whether the first descriptor among the arguments is that of a regular file.
fn is_on_file(arguments: &str) -> bool {
    let path = arguments.split_once('<').map_or("", |(_, path)| path);
    let others = ["/proc/", "/sys/", "/dev/"];
    path.starts_with('/') && !others.iter().any(|other| path.starts_with(other))
}

/// The calls of a trace in the order in which they ended.
fn calls(trace: &str) -> Vec<Call<'_>> {
    let mut begun: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((process, text)) = line.split_once(' ') else {
            continue;
        };
        let text = text.trim_start();
        if let Some(text) = text.strip_suffix("<unfinished ...>") {
            if let Some((name, arguments)) = text.split_once('(') {
                begun.insert(process, (name, arguments));
            }
            continue;
        }
        let (name, before, rest) = if let Some(resumed) = text.strip_prefix("<... ") {
            let Some((_, rest)) = resumed.split_once(" resumed>") else {
                continue;
            };
            let Some((name, arguments)) = begun.remove(process) else {
                continue;
            };
            (name, arguments, rest)
        } else {
            let Some((name, rest)) = text.split_once('(') else {
                continue;
            };
            (name, "", rest)
        };
        // Nothing that follows the result has this in it, but what goes before may.
        let Some((arguments, result)) = rest.rsplit_once(" = ") else {
            continue;
        };
        calls.push(Call {
            process,
            name,
            arguments: format!("{before}{arguments}"),
            result: result.split([' ', '<']).next().unwrap_or_default(),
        });
    }
    calls
}

/// The processes that maintain the store, for nobody waits for them and they may find more or less to do, with the number of the call from which on each does, and all that
/// they have started.
fn ignored<'a>(calls: &[Call<'a>]) -> BTreeMap<&'a str, usize> {
    let mut ignored: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        if call.name == "execve" && call.arguments.contains(MAINTENANCE) {
            ignored.insert(call.process, at);
        }
    }
    // A process may be seen before the call that has made it returns.
    loop {
        let started: BTreeSet<&str> = calls
            .iter()
            .enumerate()
            .filter(|(at, call)| ignored.get(call.process).is_some_and(|from| at > from))
            .filter(|(_, call)| ["clone", "clone3", "fork", "vfork"].contains(&call.name))
            .map(|(_, call)| call.result)
            .filter(|child| !ignored.contains_key(child))
            .collect();
        if started.is_empty() {
            return ignored;
        }
        ignored.extend(started.into_iter().map(|child| (child, 0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_counted() {
        let trace = r#"10 execve("/k", ["k"], 0x7ffc /* 9 vars */) = 0
10 openat(AT_FDCWD</w>, "/f = 3", O_RDONLY) = 3</f = 3>
10 read(3</f = 3>, "a) = 5", 32) = 6
10 read(4<pipe:[77]>, "abc", 32) = 3
10 read(5</proc/10/stat>, "abc", 32) = 3
10 statx(AT_FDCWD</w>, "/none", 0, 0, 0x7f) = -1 ENOENT (No such file or directory)
10 pwrite64(6</s/meta-v1.db-wal>, ""..., 4096, 32 <unfinished ...>
11 fcntl(6</s/meta-v1.db>, F_SETLK, {l_type=F_RDLCK}) = 0
11 fcntl(6</s/meta-v1.db>, F_GETFD) = 0
10 <... pwrite64 resumed>) = 4096
10 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 12
10 clone3({flags=CLONE_NEWPID}, 88) = 13
10 mount("a", "/b", NULL, MS_BIND, NULL) = 0
"#;
        let expected = [
            ("opens", 1),
            ("looks", 1),
            ("reads", 1),
            ("writes", 1),
            ("locks", 1),
            ("processes", 2),
            ("mounts", 1),
            (BYTES_READ, 6),
            (BYTES_WRITTEN, 4096),
        ];
        let counts = count(trace);
        for (kind, number) in expected {
            assert_eq!(counts[kind], number, "{kind}: {counts:?}");
        }
        assert_eq!((counts["changes"], counts["syncs"]), (0, 0));
    }

    #[test]
    fn what_maintains_the_store_does_not_count() {
        let trace = r#"10 openat(AT_FDCWD</>, "/a", 0) = 3</a>
10 vfork( <unfinished ...>
20 execve("/proc/self/exe", ["k", "--root", "/s", "internal-maintenance"], 0x7f) = 0
10 <... vfork resumed>) = 20
21 openat(AT_FDCWD</>, "/of a thread", 0) = 4</of a thread>
20 clone3({flags=CLONE_THREAD}, 88) = 21
20 openat(AT_FDCWD</>, "/b", 0) = 3</b>
10 openat(AT_FDCWD</>, "/c", 0) = 3</c>
"#;
        let counts = count(trace);
        assert_eq!((counts["opens"], counts["processes"]), (2, 1), "{counts:?}");
    }
}

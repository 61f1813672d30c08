//! What a run of kiln may have left behind.
//!
//! Everything is tied to one lab, so that tests can run at the same time: its processes carry the
//! store's path in their environment, have it among their mounts, or sit in the lab's own cgroup.

use std::path::{Path, PathBuf};

/// A cgroup for all processes of a lab, where version 2 is mounted and writable.
pub(crate) fn make_group(lab: &Path) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let at = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right
            .starts_with("cgroup2 ")
            .then(|| left.split(' ').nth(4))?
    })?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let group = Path::new(at).join(own).join(lab.file_name()?);
    std::fs::create_dir(&group).ok()?;
    Some(group)
}

/// Removes the group and all below it; what still runs in it is killed.
pub(crate) fn remove_group(group: &Path) {
    let _ = std::fs::write(group.join("cgroup.kill"), "1");
    for _ in 0..100 {
        for below in subgroups(group) {
            let _ = std::fs::remove_dir(below);
        }
        if std::fs::remove_dir(group).is_ok() || !group.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn subgroups(group: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

/// One line for each thing that is left.
pub(crate) fn find(lab: &Path, store: &Path, tmp: &Path, group: Option<&Path>) -> Vec<String> {
    let mut left = processes(store);
    left.extend(mounts(lab));
    for folder in ["work-v1", "trash", "content-v1/partial"] {
        left.extend(entries(&store.join(folder)));
    }
    left.extend(entries(tmp));
    if let Some(group) = group {
        left.extend(
            subgroups(group)
                .iter()
                .map(|g| format!("cgroup {}", g.display())),
        );
        let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        left.extend(
            members
                .lines()
                .map(|pid| format!("process {pid} in {}", group.display())),
        );
    }
    left
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|e| format!("file {}", e.path().display()))
        .collect()
}

fn mounts(lab: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lab = lab.to_string_lossy();
    text.lines()
        .filter(|l| l.contains(&*lab))
        .map(|l| format!("mount {l}"))
        .collect()
}

fn processes(store: &Path) -> Vec<String> {
    let needle = store.to_string_lossy().into_owned();
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let mentions = |file: &str| {
            std::fs::read(entry.path().join(file))
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&needle))
        };
        // The environment tells kiln's own processes, the mounts those inside a sandbox.
        if mentions("environ") || mentions("mountinfo") {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("process {pid}: {command}"));
        }
    }
    found
}

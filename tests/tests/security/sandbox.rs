//! What a process in a RUN step or a container can reach.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::time::Duration;

use kiln_tests::{Canary, Lab, Tarball};

/// Output of a shell script in a RUN step.
fn step(lab: &Lab, script: &str) -> String {
    let context = lab.context("context", &[]);
    context.dockerfile(&format!("FROM busybox\nRUN <<'EOF'\n{script}\nEOF\n"));
    lab.build(&context).arg("--no-cache").built().log()
}

/// Output of the same in a container.
fn container(lab: &Lab, script: &str) -> String {
    lab.kiln(["run", "--rm", "busybox", "sh", "-c", script])
        .output()
        .ok()
        .stdout()
        .to_owned()
}

#[test]
fn cve_2024_23653_and_cve_2022_27651_every_entry_is_confined() {
    let lab = Lab::new();
    for run in [step, container] {
        let status = run(&lab, "grep -E '^(Cap|Seccomp:)' /proc/self/status");
        for line in [
            "Seccomp:\t2",
            "CapInh:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "CapEff:\t00000000a80405fb",
            "CapBnd:\t00000000a80405fb",
        ] {
            assert!(status.contains(line), "no `{line}` in {status}");
        }
        let denied = run(
            &lab,
            "mount -t tmpfs x /mnt 2>&1 && echo MOUNTED; unshare -U true 2>&1 && echo UNSHARED; \
             chroot / mknod /tmp/n b 8 0 2>/dev/null; dd if=/tmp/n of=/dev/null count=1 2>/dev/null && echo DEVICE; \
             echo 1 > /proc/sys/kernel/sysrq && echo SYSCTL; echo b > /proc/sysrq-trigger && echo SYSRQ; \
             cat /proc/kcore >/dev/null 2>&1 && [ -s /proc/kcore ] && echo KCORE; ls /proc/1/root/../../canary 2>/dev/null; true",
        );
        for word in ["MOUNTED", "UNSHARED", "DEVICE", "SYSCTL", "SYSRQ", "KCORE"] {
            assert!(!denied.contains(word), "{denied}");
        }
    }
}

#[test]
fn devices_of_the_host_cannot_be_opened_by_their_numbers() {
    let lab = Lab::new();
    // Fuse and the control of loop devices: this process can open them.
    for path in ["/dev/fuse", "/dev/loop-control"] {
        std::fs::File::open(path).unwrap();
    }
    let script = "for node in 'c 10 229' 'c 10 237'; do \
         for at in /node /dev/node /dev/shm/node; do \
         mknod $at $node || echo UNMADE $node; \
         (: < $at) 2>/dev/null && echo OPENED $at $node; rm -f $at; done; done; \
         mknod /null c 1 3; echo x > /null && echo NULL; cat < /dev/zero | head -c 4 | wc -c";
    for run in [step, container] {
        let out = run(&lab, script);
        assert!(!out.contains("OPENED") && !out.contains("UNMADE"), "{out}");
        assert_eq!(out.trim_end(), "NULL\n4");
    }
    // The same where no program can watch over a step's group: then nothing can be made either.
    let context = lab.dockerfile(
        "FROM busybox\nRUN mknod /n c 10 229 || echo UNMADE; ls -l /dev/null; echo x > /dev/null && echo USED\n",
    );
    let without = lab
        .build(&context)
        .after("umount -l $(awk '$3 == \"cgroup2\" {print $2}' /proc/mounts)");
    let log = without.built().log();
    assert!(log.contains("UNMADE") && log.contains("USED"), "{log}");
    // Nor those that an image brings along, as root or another user, nor through a mount.
    let disk = "c 10 229";
    let context = lab.dockerfile(&format!(
        "FROM busybox AS nodes\nRUN mkdir /d && mknod -m 666 /d/disk {disk}\nFROM nodes\n\
         RUN (: < /d/disk) 2>/dev/null && echo OPENED; rm /d/disk; true\n\
         RUN --mount=from=nodes,target=/m (: < /m/d/disk) 2>/dev/null && echo OPENED; ls -l /m/d\n\
         RUN --mount=type=cache,target=/c mknod /c/disk {disk}; (: < /c/disk) 2>/dev/null && echo OPENED; true\n\
         RUN --mount=type=tmpfs,target=/t mknod /t/disk {disk}; (: < /t/disk) 2>/dev/null && echo OPENED; true\n"
    ));
    let log = lab.build(&context).arg("--no-cache").built().log();
    assert!(!log.contains("OPENED") && log.contains("disk"), "{log}");
}

#[test]
fn cve_2024_21626_no_descriptor_of_the_host_leaks() {
    let lab = Lab::new();
    for run in [step, container] {
        let found = run(&lab, "ls /proc/self/fd; sh -c 'ls -l /proc/self/fd'");
        // The fourth is the directory that is being listed.
        let numbers: Vec<&str> = found
            .lines()
            .filter(|l| l.bytes().all(|b| b.is_ascii_digit()))
            .collect();
        assert_eq!(numbers, ["0", "1", "2", "3"], "{found}");
        assert!(
            !found.contains("kiln") && !found.contains("layers-v1"),
            "{found}"
        );
    }
    for number in 0..64 {
        let context = lab.dockerfile(&format!("FROM busybox\nWORKDIR /proc/self/fd/{number}\nRUN pwd; ls ../../../../../; cat ../../../../../../{}/Dockerfile\n", lab.path("context").display()));
        let out = lab.build(&context).output().orderly();
        assert!(!out.err.contains("FROM busybox\\nWORKDIR"), "{out}");
        if number % 8 == 0 {
            let out = lab
                .kiln([
                    "run",
                    "--rm",
                    "-w",
                    &format!("/proc/self/fd/{number}"),
                    "busybox",
                    "sh",
                    "-c",
                    "ls -d ../../../work-v1 ../../../../meta-v1.db",
                ])
                .output()
                .orderly();
            assert!(!out.succeeded(), "{out}");
        }
    }
}

#[test]
fn cve_2019_5736_the_engine_cannot_be_overwritten() {
    let lab = Lab::new();
    let binary = kiln_tests::setting("KILN_TEST_BIN");
    let before = std::fs::read(&binary).unwrap();
    let context = lab.dockerfile(
        "FROM busybox\nRUN ln -s /proc/self/exe /evil && printf '#!/proc/self/exe\\n' > /hash && chmod +x /hash\n\
         RUN for i in $(seq 200); do for e in /proc/[0-9]*/exe; do echo x >> $e 2>/dev/null; done; done; true\n",
    );
    lab.build(&context).tag("x").built();
    for entry in ["/proc/self/exe", "/evil", "/hash"] {
        lab.kiln(["run", "--rm", "--entrypoint", entry, "x", "--version"])
            .output()
            .orderly();
        let context = lab.context(
            "c",
            &[(
                "Dockerfile",
                &format!("FROM x\nRUN [\"{entry}\", \"--version\"]\n"),
            )],
        );
        lab.build(&context).output().orderly();
    }
    lab.run("x", &["sh", "-c", "for i in $(seq 200); do echo x > /proc/1/exe; echo x > /proc/self/exe; done 2>/dev/null; true"]);
    assert!(
        std::fs::read(&binary).unwrap() == before,
        "the binary was changed"
    );
    let seen = step(
        &lab,
        "find / -xdev -name '*kiln*' 2>/dev/null; ls -l /proc/1/exe",
    );
    assert!(!seen.contains("kiln"), "{seen}");
}

#[test]
fn cve_2025_31133_masked_paths_do_not_trust_the_images_dev_null() {
    let lab = Lab::new();
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let tar = Tarball::busybox_without(&["dev"])
        .dir("dev", 0o755)
        .link("dev/null", "/proc/sys/kernel/core_pattern")
        .link("dev/zero", "/proc/sysrq-trigger");
    lab.import(&tar.bytes(), "evil");
    let script = "exec 2>&1; echo '|/evil' > /dev/null; echo '|/evil' > /proc/sys/kernel/core_pattern; stat -c %t:%T /dev/null; cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; touch /proc/sys/x";
    let context = lab.dockerfile(&format!("FROM evil\nRUN <<'EOF'\n{script}\ntrue\nEOF\n"));
    let out = lab.build(&context).output().orderly();
    if out.succeeded() {
        let log = kiln_tests::Built::of(&out).log();
        assert!(
            log.lines().any(|l| l.ends_with("1:3")) && log.lines().any(|l| l == "0"),
            "{log}"
        );
    }
    lab.kiln(["run", "--rm", "evil", "sh", "-c", script])
        .output()
        .orderly();
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(),
        pattern
    );
}

#[test]
fn cve_2025_52881_no_write_goes_through_the_images_proc() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    // A volume that is the container's /proc, and an image that brings one of its own.
    let fake = lab.context("fake", &[]);
    for name in [
        "self/attr/exec",
        "self/setgroups",
        "self/uid_map",
        "sys/kernel/x",
        "sysrq-trigger",
        "self/oom_score_adj",
    ] {
        fake.write(name, "fake");
    }
    lab.kiln(["run", "--rm", "-v"])
        .arg(format!("{}:/proc", fake.path().display()))
        .args(["busybox", "true"])
        .output()
        .orderly();
    for name in [
        "self/attr/exec",
        "self/setgroups",
        "self/uid_map",
        "self/oom_score_adj",
    ] {
        assert_eq!(
            std::fs::read_to_string(fake.at(name)).unwrap(),
            "fake",
            "{name}"
        );
    }
    canary.assert_untouched();
}

#[test]
fn cve_2025_52565_the_console_is_a_terminal_of_the_container() {
    let lab = Lab::new();
    let out = lab.kiln(["run", "--rm", "-t", "busybox", "sh", "-c", "ls -l /dev/console; stat -c %F /dev/console; cat /proc/mounts | grep console; ls /dev/pts; readlink /dev/ptmx"]).output().ok();
    let text = out.stdout().replace('\r', "");
    assert!(text.contains("character special file"), "{text}");
    assert!(text.contains("/dev/console devpts"), "{text}");
    assert!(text.contains("pts/ptmx"), "{text}");
    // Exactly the one that was made for it.
    assert!(
        text.lines()
            .any(|l| l.trim() == "0" || l.split_whitespace().any(|w| w == "0")),
        "{text}"
    );
}

#[test]
fn cve_2020_15257_no_abstract_socket_of_the_engine() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN --network=host cat /proc/net/unix\n");
    let log = lab.build(&context).built().log();
    assert!(log.contains("RefCount"), "{log}");
    let mine: Vec<&str> = log
        .lines()
        .filter(|l| l.contains("@") && l.contains("kiln"))
        .collect();
    assert!(mine.is_empty(), "{mine:?}");
}

#[test]
fn cve_2024_40635_and_cve_2026_46680_users_beyond_the_numbers() {
    let lab = Lab::new();
    for user in [
        "4294967296",
        "4294967295",
        "-1",
        "0x0",
        "+0",
        "99999999999999999999",
        "0:4294967296",
        "1e3",
        "٠",
    ] {
        let context = lab.dockerfile(&format!(
            "FROM busybox\nRUN echo '{user}:x:0:0:evil:/:/bin/sh' >> /etc/passwd\nUSER {user}\nRUN id -u\n"
        ));
        let out = lab.build(&context).output().orderly();
        let is_root = kiln_tests::Built::of(&out).log().lines().any(|l| l == "0");
        // A name of the file may be looked up, but a number is never a name.
        let is_number = user
            .trim_start_matches(['-', '+'])
            .starts_with(|c: char| c.is_ascii_digit());
        assert!(!(is_root && is_number), "USER {user} became root: {out}");
        let out = lab
            .kiln(["run", "--rm", "-u", user, "busybox", "id", "-u"])
            .output()
            .orderly();
        assert!(!out.stdout().lines().any(|l| l == "0"), "-u {user}: {out}");
    }
}

#[test]
fn cve_2023_25173_supplementary_groups() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN echo 'extra:x:1234:www-data,nobody' >> /etc/group; echo 'more:x:1235:www-data' >> /etc/group\n\
         USER www-data\nRUN id -G\nUSER 33:100\nRUN id -G\nUSER 5555\nRUN id -G\nUSER root\nRUN id -G\n",
    );
    let built = lab.build(&context).tag("x").built();
    let groups: Vec<Vec<&str>> = built
        .steps
        .values()
        .filter(|s| s.name.contains("RUN id"))
        .map(|s| {
            let mut groups: Vec<&str> = s.log.split_whitespace().collect();
            groups.sort_unstable();
            groups
        })
        .collect();
    assert_eq!(groups[0], ["1234", "1235", "33"]);
    assert!(
        groups[1].contains(&"100") && !groups[1].contains(&"0"),
        "{groups:?}"
    );
    assert_eq!(groups[2], ["0"]);
    assert_eq!(groups[3], ["0"]);
    let out = lab
        .kiln(["run", "--rm", "-u", "www-data", "x", "id", "-G"])
        .output()
        .ok();
    assert_eq!(
        out.stdout()
            .split_whitespace()
            .collect::<std::collections::BTreeSet<_>>(),
        ["1234", "1235", "33"].into()
    );
}

#[test]
fn cve_2024_9676_user_files_that_are_none() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    for make in [
        format!(
            "ln -sf {}/secret /etc/passwd; ln -sf {0}/secret /etc/group",
            canary.path()
        ),
        format!(
            "rm /etc/passwd; ln -s {}{}/fifo /etc/passwd",
            "../".repeat(9),
            canary.path().trim_start_matches('/')
        ),
        "rm /etc/passwd /etc/group; mkfifo /etc/passwd /etc/group".to_owned(),
        "rm /etc/passwd /etc/group; ln -s /dev/zero /etc/passwd; ln -s /dev/zero /etc/group"
            .to_owned(),
        "rm /etc/passwd /etc/group; mkdir /etc/passwd /etc/group".to_owned(),
        "rm /etc/passwd; dd if=/dev/zero of=/etc/passwd bs=1M count=0 seek=1024 2>/dev/null"
            .to_owned(),
    ] {
        let context = lab.dockerfile(&format!(
            "FROM busybox\nRUN {make}\nUSER somebody\nRUN id\n"
        ));
        let out = lab.build(&context).output().failed();
        assert!(out.wall < Duration::from_secs(30), "{make}: {out}");
        assert!(!out.err.contains(canary.secret()), "{out}");
        // A number needs no file.
        context.dockerfile(&format!(
            "FROM busybox\nRUN {make}\nUSER 7\nRUN id -u\nCOPY --chown=8 Dockerfile /f\n"
        ));
        let out = lab.build(&context).output().orderly();
        assert!(out.wall < Duration::from_secs(30), "{make}: {out}");
        canary.assert_untouched();
    }
}

#[test]
fn cve_2026_47262_a_huge_group_file() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN yes 'g:x:1:www-data' | head -c 150000000 >> /etc/group\nUSER www-data\nRUN id -G | wc -w\n",
    );
    let run = lab.build(&context).start();
    let pid = run.pid();
    let watcher = std::thread::spawn(move || {
        let mut peak = 0u64;
        while let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
            let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let Some(size) = line.and_then(|l| l.split_whitespace().next()?.parse().ok()) else {
                break;
            };
            peak = peak.max(size);
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    });
    run.wait().failed();
    let peak = watcher.join().unwrap();
    assert!(peak < 150_000, "{peak} kB");
}

#[test]
fn cve_2026_53488_labels_are_only_text() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let mut text = "FROM busybox\n".to_owned();
    for label in [
        "io.containers.capabilities=ALL",
        "run.oci.hooks.stdout=/tmp/x",
        "com.docker.security=unconfined",
        "io.kubernetes.cri.privileged=true",
        "org.kiln.allow=security.insecure",
    ] {
        text.push_str(&format!("LABEL {label}\n"));
    }
    text.push_str(&format!("LABEL RUN=\"sh -c 'echo over > {}/writable'\"\nRUN grep CapEff /proc/self/status > /caps\n", canary.path()));
    let context = lab.dockerfile(&text);
    lab.build(&context).tag("x").built();
    // In the step, and in a container without the host's network.
    let caps = lab.run(
        "x",
        &["sh", "-c", "cat /caps; grep CapEff /proc/self/status"],
    );
    assert!(
        caps.contains("a80405fb") && caps.contains("a80425fb"),
        "{caps}"
    );
    canary.assert_untouched();
}

#[test]
fn cve_2025_47290_and_setuid_files_of_the_store_are_out_of_reach() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN cp /bin/busybox /suid && chmod 4755 /suid && echo s > /readable\n",
    );
    lab.build(&context).tag("x").built();
    std::fs::set_permissions(
        lab.dir(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    // Someone who knows the names must not get in either.
    let mut places = vec![lab.store()];
    let mut found = Vec::new();
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(&place).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                places.push(entry.path());
            } else if entry.file_name() == "suid"
                || entry.file_name() == "readable"
                || entry.file_name() == "meta-v1.db"
            {
                found.push(entry.path());
            }
        }
    }
    assert!(found.len() >= 3, "{found:?}");
    let readable: Vec<_> = found
        .iter()
        .filter(|path| {
            std::process::Command::new("setpriv")
                .args([
                    "--reuid",
                    "65534",
                    "--regid",
                    "65534",
                    "--clear-groups",
                    "test",
                    "-r",
                ])
                .arg(path)
                .status()
                .unwrap()
                .success()
        })
        .collect();
    assert!(readable.is_empty(), "anybody can read {readable:?}");
}

#[test]
fn cve_2020_27534_no_file_at_a_guessable_place() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN echo x > /x\nCOPY Dockerfile /d\n");
    // Works without a temporary directory, so nothing is put into one.
    lab.build(&context)
        .env("TMPDIR", "/nonexistent")
        .tag("x")
        .built();
    lab.kiln(["run", "--rm", "x", "true"])
        .env("TMPDIR", "/nonexistent")
        .output()
        .ok();
}

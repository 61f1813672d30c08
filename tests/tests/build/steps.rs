//! RUN: mounts, network, limits, secrets, security.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::net::UnixListener;

use kiln_tests::{Answer, Context, Lab, Server, holds, tool};

#[test]
fn both_streams_are_shown_in_the_order_of_writing() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN echo out; echo err >&2\nRUN echo err >&2; echo out\n\
         RUN echo tell; echo why >&2; false\n",
    );
    let failed = lab.build(&context).fails();
    let shown = lab.kiln(["build", "--progress=plain"]).last(context.path());
    shown.fails().says(&["\ntell\nwhy\n------"]);
    let events = failed.err.lines();
    let events = events.filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let logs: Vec<String> = events
        .filter(|event| event["event"] == "log")
        .map(|log| format!("{} {}", log["stream"], log["text"]))
        .collect();
    let wanted = [
        r#""out" "out\n""#,
        r#""err" "err\n""#,
        r#""err" "err\n""#,
        r#""out" "out\n""#,
        r#""out" "tell\n""#,
        r#""err" "why\n""#,
    ];
    assert_eq!(logs, wanted, "{failed}");
}

#[test]
fn cache_mounts_persist_and_stay_out_of_the_image() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nARG N\nRUN --mount=type=cache,target=/cache echo $N >> /cache/log; cp /cache/log /copy\n\
         RUN --mount=type=cache,id=other,target=/cache ls /cache > /other\n",
    );
    for n in ["1", "2", "3"] {
        lab.build(&context)
            .args(["--build-arg", &format!("N={n}")])
            .tag("x")
            .built();
    }
    assert_eq!(lab.run("x", &["cat", "/copy"]), "1\n2\n3");
    assert_eq!(lab.run("x", &["cat", "/other"]), "");
    assert_eq!(
        lab.run("x", &["sh", "-c", "ls /cache 2>/dev/null; true"]),
        ""
    );
}

#[test]
fn cache_mounts_take_mode_owner_source_and_from() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS seed\nRUN mkdir -p /s/sub && echo seeded > /s/sub/f\nFROM busybox\n\
         RUN --mount=type=cache,id=m,target=/c,mode=0750,uid=33,gid=100 stat -c '%a %u:%g' /c > /m\n\
         RUN --mount=type=cache,id=s,target=/c,from=seed,source=/s/sub cat /c/f > /f\n\
         RUN --mount=type=cache,target=/ro,readonly touch /ro/x 2>/dev/null && exit 1; true\n",
    );
    lab.build(&context).tag("x").built();
    assert_eq!(lab.run("x", &["cat", "/m", "/f"]), "750 33:100\nseeded");
}

#[test]
fn cache_mount_sharing() {
    let lab = Lab::new();
    // `locked`: never two at a time; `private`: each its own.
    for (sharing, expected) in [("locked", "0"), ("private", "0"), ("shared", "1")] {
        let step = |n: u32| {
            format!(
                "FROM busybox AS s{n}\nRUN --mount=type=cache,id={sharing},sharing={sharing},target=/c \
                 if [ -e /c/busy ]; then echo 1 > /seen; else echo 0 > /seen; fi; touch /c/busy; \
                 sleep 0.5; [ {sharing} = shared ] || rm -f /c/busy\n"
            )
        };
        let context = lab.dockerfile(&format!(
            "{}{}FROM busybox\nCOPY --from=s1 /seen /1\nCOPY --from=s2 /seen /2\nRUN sort /1 /2 | tail -1 > /max\n",
            step(1), step(2)
        ));
        // With `shared` the second build sees what the first has left.
        lab.build(&context).tag("x").built();
        lab.build(&context).arg("--no-cache").tag("x").built();
        assert_eq!(lab.run("x", &["cat", "/max"]), expected, "{sharing}");
    }
}

#[test]
fn bind_mounts_show_contexts_stages_and_images() {
    let lab = Lab::new();
    let context = lab.context("context", &[("dir/f", "context"), ("g", "file")]);
    context.dockerfile(
        "FROM busybox AS one\nRUN mkdir /d && echo stage > /d/f\nFROM busybox\n\
         RUN --mount=type=bind,source=dir,target=/m cat /m/f > /a\n\
         RUN --mount=target=/all cat /all/g > /b\n\
         RUN --mount=from=one,source=/d,target=/m cat /m/f > /c\n\
         RUN --mount=from=one,source=/d/f,target=/single cat /single > /d\n\
         RUN --mount=source=dir,target=/m touch /m/no 2>/dev/null && exit 1; true\n\
         RUN --mount=source=dir,target=/m,rw echo changed > /m/f; cat /m/f > /e\n\
         RUN --mount=source=dir,target=/m cat /m/f > /g\n",
    );
    lab.build(&context).tag("x").built();
    assert_eq!(
        lab.run("x", &["cat", "/a", "/b", "/c", "/d", "/e", "/g"]),
        "contextfilestage\nstage\nchanged\ncontext"
    );
    assert_eq!(
        std::fs::read_to_string(context.at("dir/f")).unwrap(),
        "context"
    );
    context.write("g", "changed");
    lab.build(&context).tag("x").built().assert_ran(&[
        "RUN --mount=target=/all",
        "RUN",
        "RUN",
        "RUN",
        "RUN",
        "RUN",
    ]);
    // A mount leaves at most its empty place.
    assert_eq!(
        lab.run(
            "x",
            &["sh", "-c", "ls /all /m 2>/dev/null | grep -v : ; true"]
        )
        .trim(),
        ""
    );
}

#[test]
fn tmpfs_mounts_are_empty_limited_and_gone() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m grep ' /t tmpfs' /proc/mounts > /kind; \
         dd if=/dev/zero of=/t/big bs=1k count=2000 2>/dev/null && exit 1; touch /t/x; true\nRUN ls /t > /after 2>/dev/null; true\n",
    );
    lab.build(&context).tag("x").built();
    assert!(lab.run("x", &["cat", "/kind"]).contains("size=1024k"));
    assert_eq!(lab.run("x", &["cat", "/after"]), "");
}

#[test]
fn secrets_are_seen_by_their_step_alone() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN --mount=type=secret,id=one stat -c '%a %u' /run/secrets/one > /mode; wc -c < /run/secrets/one > /len\n\
         RUN --mount=type=secret,id=two,target=/etc/two,mode=0440,uid=33 stat -c '%a %u' /etc/two > /two\n\
         RUN --mount=type=secret,id=env,env=TOKEN echo ${#TOKEN} > /env\n\
         RUN --mount=type=secret,id=absent ls /run/secrets 2>/dev/null > /none; true\n\
         RUN ls /run/secrets /etc/two 2>/dev/null | wc -l > /left\n",
    );
    let secret = "Xq7-very-secret-value-19c2";
    let file = lab.path("secret");
    std::fs::write(&file, secret).unwrap();
    let build = |lab: &Lab| {
        lab.build(&context)
            .arg(format!("--secret=id=one,src={}", file.display()))
            .arg(format!("--secret=id=two,src={}", file.display()))
            .args(["--secret", "id=env,env=MY_TOKEN"])
            .env("MY_TOKEN", secret)
            .tag("x")
    };
    let built = build(&lab).built();
    assert_eq!(
        lab.run("x", &["cat", "/mode", "/len", "/two", "/env"]),
        "400 0\n26\n440 33\n26"
    );
    assert!(!built.log().contains(secret));
    // Another value is no other key, and the value is nowhere in the store or the image.
    std::fs::write(&file, "other").unwrap();
    build(&lab).built().assert_all_cached();
    let archive = lab.path("x.tar");
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg("x")
        .output()
        .ok();
    for place in [lab.store(), archive] {
        assert!(
            !holds(&place, secret.as_bytes()),
            "secret in {}",
            place.display()
        );
    }
    let required = lab.context(
        "required",
        &[(
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=secret,id=must,required=true true\n",
        )],
    );
    lab.build(&required).fails().says(&["must"]);
}

#[test]
fn an_ssh_agent_is_forwarded() {
    let lab = Lab::new();
    let socket = lab.path("agent");
    let _listener = UnixListener::bind(&socket).unwrap();
    let context = lab.dockerfile(
        "FROM busybox\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\" && echo yes > /seen\nRUN echo [$SSH_AUTH_SOCK] > /after\n\
         RUN --mount=type=ssh,id=own,target=/agent.sock test -S /agent.sock\n",
    );
    lab.build(&context)
        .arg(format!("--ssh=default={}", socket.display()))
        .arg(format!("--ssh=own={}", socket.display()))
        .tag("x")
        .built();
    assert_eq!(lab.run("x", &["cat", "/seen", "/after"]), "yes\n[]");
    let required = lab.context(
        "required",
        &[(
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=ssh,required true\n",
        )],
    );
    lab.build(&required)
        .env("SSH_AUTH_SOCK", "")
        .fails()
        .says(&["ssh"]);
}

#[test]
fn networks_of_a_step() {
    let lab = Lab::new();
    let server = Server::files(vec![("/", Answer::ok("up"))]);
    let url = server.url("/");
    let context = lab.dockerfile(&format!(
        "FROM busybox\nRUN --network=none ls /sys/class/net > /none; cat /etc/hosts > /hosts\n\
         RUN --network=host wget -q -O /host {url}\n\
         RUN --network=default cat /etc/resolv.conf > /resolv; ls /sys/class/net > /default\n"
    ));
    lab.build(&context)
        .args(["--add-host", "db.test:10.1.2.3"])
        .tag("x")
        .built();
    assert_eq!(lab.run("x", &["cat", "/none"]), "lo");
    assert_eq!(lab.run("x", &["cat", "/host"]), "up");
    let hosts = lab.run("x", &["cat", "/hosts"]);
    assert!(
        hosts.contains("127.0.0.1") && hosts.contains("10.1.2.3\tdb.test")
            || hosts.contains("10.1.2.3 db.test"),
        "{hosts}"
    );
    assert!(lab.run("x", &["cat", "/resolv"]).contains("nameserver"));
    // What a step sees of them is not part of the image.
    let layers = lab.inspect("x")["RootFS"]["Layers"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(layers, 4);
    let all_none = lab.context(
        "none",
        &[("Dockerfile", "FROM busybox\nRUN ls /sys/class/net > /n\n")],
    );
    lab.build(&all_none)
        .args(["--network", "none"])
        .tag("y")
        .built();
    assert_eq!(lab.run("y", &["cat", "/n"]), "lo");
}

#[test]
fn limits_and_shared_memory() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN ulimit -n > /n; ulimit -Hn >> /n; df -k /dev/shm | tail -1 | awk '{print $2}' > /shm\n");
    lab.build(&context)
        .args(["--ulimit", "nofile=333:444", "--shm-size", "8m"])
        .tag("x")
        .built();
    assert_eq!(lab.run("x", &["cat", "/n", "/shm"]), "333\n444\n8192");
}

#[test]
fn insecure_steps_need_to_be_allowed() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN grep CapEff /proc/self/status > /usual\nRUN --security=insecure echo x > /dev/null && grep CapEff /proc/self/status > /caps && mount -t tmpfs x /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs x /mnt\n",
    );
    lab.build(&context).fails().says(&["security.insecure"]);
    lab.build(&context)
        .args(["--allow", "security.insecure"])
        .tag("x")
        .built();
    let (usual, caps) = (
        lab.run("x", &["cat", "/usual"]),
        lab.run("x", &["cat", "/caps"]),
    );
    assert!(usual.contains("00000000a80405fb"), "{usual}");
    assert_ne!(usual, caps);
    lab.assert_clean();
}

#[test]
fn what_a_step_leaves_running_is_stopped() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN sleep 1000 & sh -c 'setsid sleep 1001 >/dev/null 2>&1 &'; echo done\n",
    );
    let built = lab.build(&context).tag("x").built();
    assert!(built.wall.as_secs() < 20, "{:?}", built.wall);
    lab.assert_clean();
}

#[test]
fn deletions_and_replacements_reach_the_image() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN mkdir -p /d/e && echo 1 > /d/e/f && echo 2 > /g && mkdir /opq && echo o > /opq/old && ln -s /d /l\n\
         RUN rm -r /d/e && rm /g && rm -r /opq && mkdir /opq && echo n > /opq/new && rm /l && mkdir /l\n\
         RUN echo back > /g\n",
    );
    lab.build(&context).tag("x").built();
    let script = "ls /d /opq; cat /g; test -d /l && ! test -L /l && echo dir";
    assert_eq!(
        lab.run("x", &["sh", "-c", script]),
        "/d:\n\n/opq:\nnew\nback\ndir"
    );
    // The same from an archive that another store loads.
    let archive = lab.path("x.tar");
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg("x")
        .output()
        .ok();
    let other = Lab::new();
    other.kiln(["load", "-i"]).arg(&archive).output().ok();
    assert_eq!(
        other.run("x", &["sh", "-c", script]),
        "/d:\n\n/opq:\nnew\nback\ndir"
    );
}

#[test]
fn steps_see_a_proper_dev_proc_and_sys() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN for n in null zero full random urandom tty ptmx pts shm fd stdin stdout stderr; do ls -d /dev/$n || exit 1; done\n\
         RUN test ! -w /proc/sysrq-trigger -o ! -s /proc/sysrq-trigger; echo $$ > /pid; hostname > /name; cat /proc/1/comm > /one\n\
         RUN echo x > /sys/kernel/x 2>/dev/null && exit 1; echo 1 > /proc/sys/kernel/panic 2>/dev/null && exit 1; \
             mknod /tmp/sda b 8 0 2>/dev/null && cat /tmp/sda > /dev/null 2>&1 && exit 1; rm -f /tmp/sda; true\n",
    );
    lab.build(&context).tag("x").built();
    let layers = lab.run("x", &["sh", "-c", "ls /dev | wc -l"]);
    assert!(layers.parse::<u32>().unwrap() > 5);
}

#[test]
fn a_users_context_is_roots_in_bind_mounts() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[("f", "x"), ("sub/g", "y"), ("secret", "z"), ("others", "")],
    );
    let chown = |path: &str, owner: u32| {
        std::os::unix::fs::chown(context.at(path), Some(owner), Some(owner + 1)).unwrap();
    };
    for path in ["", "f", "sub", "sub/g", "secret"] {
        chown(path, 1000);
    }
    chown("others", 2000);
    let list = "stat -c '%u:%g %n' . *";
    let run = |options: &str, script: &str| {
        context.dockerfile(&format!(
            "FROM busybox\nRUN --mount=type=bind,target=/m{options} cd /m && {script}\n"
        ));
        lab.build(&context).built().log()
    };
    let all = "0:0 .\n0:0 Dockerfile\n2000:2001 others\n0:0 f\n0:0 secret\n0:0 sub\n";
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    context.dockerfile("");
    chown("Dockerfile", 1000);
    assert_eq!(sorted(&run("", list)), sorted(all));
    assert_eq!(run(",source=sub", list), "0:0 .\n0:0 g\n");
    let wrote = run(
        ",rw",
        "echo 1 > new && rm f && stat -c '%u:%g %n' * sub/g | sort",
    );
    assert_eq!(
        wrote,
        "0:0 Dockerfile\n0:0 new\n0:0 secret\n0:0 sub\n0:0 sub/g\n2000:2001 others\n"
    );
    context.write(".dockerignore", "secret\n");
    chown(".dockerignore", 1000);
    assert_eq!(
        sorted(&run("", list)),
        sorted(&all.replace("0:0 secret\n", ""))
    );
}

/// Hands a context and all that is in it to a user and a group.
fn hand_over(context: &Context, owner: &str) {
    let path = context.path().display().to_string();
    tool("chown", ["-R", owner, path.as_str()]);
}

#[test]
fn two_users_with_the_same_context_share_what_bind_mounts_make() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            ("f", "x"),
            ("sub/g", "y"),
            ("sub/secret", "z"),
            (".dockerignore", "sub/secret\n"),
            (
                "Dockerfile",
                "FROM busybox\n\
                 RUN --mount=type=bind,target=/m cd /m && stat -c '%u:%g %n' . f sub sub/*\n\
                 RUN --mount=type=bind,target=/m,source=sub stat -c %u /m/g\n",
            ),
        ],
    );
    hand_over(&context, "1000:1001");
    let first = lab.build(&context).built();
    assert_eq!(first.log(), "0:0 .\n0:0 f\n0:0 sub\n0:0 sub/g\n0\n");
    for owner in ["2000:2001", "0:0"] {
        hand_over(&context, owner);
        lab.build(&context).built().assert_all_cached();
    }
    // What is shown makes a difference.
    std::os::unix::fs::chown(context.at("sub/g"), Some(3000), None).unwrap();
    let other = lab.build(&context).built();
    assert_eq!(other.log(), "0:0 .\n0:0 f\n0:0 sub\n3000:0 sub/g\n3000\n");
}

/// A file system without id-mapped mounts shows owners as they are, so there they are in the key.
#[test]
fn owners_that_a_mount_shows_are_in_the_key() {
    let lab = Lab::new();
    let context = lab.context("context", &[]);
    let path = context.path().display().to_string();
    let build = |user: u32| {
        let script = format!(
            "mount -t ramfs none {path}; echo x > {path}/f
             printf 'FROM busybox\\nRUN --mount=target=/m stat -c %%u /m/f\\n' > {path}/Dockerfile
             chmod 755 {path}; chown -R {user}:{user} {path}"
        );
        lab.build(&context).after(&script).built()
    };
    assert_eq!(build(1000).log(), "1000\n");
    assert_eq!(build(2000).log(), "2000\n");
    build(1000).assert_all_cached();
}

/// What a process without rights writes to by name: the streams belong to its user.
#[test]
fn streams_can_be_opened_by_name_whoever_the_user_is() {
    let lab = Lab::new();
    let script = "for s in /dev/stdout /dev/stderr /proc/self/fd/1; do echo $s > $s; done";
    let context = lab.dockerfile(&format!(
        "FROM busybox\nRUN {script}\nUSER 1000:1000\nRUN {script}\nUSER 65534\nRUN {script}\n"
    ));
    let built = lab.build(&context).tag("x").built();
    for name in ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1"] {
        assert_eq!(
            built.log().matches(name).count(),
            3,
            "{name}: {}",
            built.log()
        );
    }
    let run = |user: &str| {
        let run = lab.kiln(["run", "--rm", "--network", "none", "-u", user]);
        run.args(["x", "sh", "-c", script])
    };
    for user in ["0", "1000", "1000:5"] {
        // Pipes.
        let out = run(user).output().ok();
        assert_eq!(out.stdout(), "/dev/stdout\n/proc/self/fd/1", "{user}");
        assert_eq!(out.err, "/dev/stderr\n", "{user}");
        // A file: it stays whose it is, nothing in it is lost, and all is in order.
        let file = lab.path("out");
        std::fs::write(&file, "before\n").unwrap();
        let line = format!("exec \"$@\" >> {} 2>&1", file.display());
        let own = lab.kiln(["run", "--rm", "--network", "none", "-u", user]);
        own.args(["x", "sh", "-c", script])
            .through(&line)
            .output()
            .ok();
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "before\n/dev/stdout\n/dev/stderr\n/proc/self/fd/1\n",
            "{user}"
        );
        let owner = std::os::unix::fs::MetadataExt::uid(&file.metadata().unwrap());
        assert_eq!(owner, 0, "{user}");
        // What is only read stays whose it is.
        let read = lab.path("read");
        std::fs::write(&read, "text\n").unwrap();
        let line = format!("exec \"$@\" < {}", read.display());
        let own = lab.kiln(["run", "--rm", "-i", "--network", "none", "-u", user]);
        let out = own.args(["x", "cat"]).through(&line).output().ok();
        assert_eq!(out.stdout(), "text");
        let owner = std::os::unix::fs::MetadataExt::uid(&read.metadata().unwrap());
        assert_eq!(owner, 0, "{user}");
        // A terminal, the container's own and ours.
        for flags in [&["-t"][..], &[]] {
            let own = lab.kiln(["run", "--rm", "--network", "none", "-u", user]);
            let own = own.args(flags).args(["x", "sh", "-c", script]);
            let shown = own.on_a_terminal().output().ok();
            for name in ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1"] {
                assert!(shown.stdout().contains(name), "{user} {name}: {shown}");
            }
        }
    }
    // What cannot be written is told.
    let full = lab.path("full");
    std::fs::create_dir(&full).unwrap();
    let full = full.display();
    let line = format!(
        "exec unshare -m sh -ec 'mount -t tmpfs -o size=16k none {full}; exec \"$@\" > {full}/f' sh \"$@\""
    );
    let own = lab.kiln(["run", "--rm", "--network", "none", "x"]);
    let own = own.args(["sh", "-c", "head -c 100000 /dev/zero || exit 0"]);
    let out = own.through(&line).output();
    assert!(!out.status.success(), "{out}");
    assert!(
        out.err
            .contains("cannot write to standard output: No space left"),
        "{out}"
    );
}

/// Mount points that are links which lead nowhere, as in images of systemd's distributions.
#[test]
fn a_mount_point_may_be_a_link_that_leads_nowhere() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS links\n\
         RUN mkdir -p /usr/etc /usr/run /deep && ln -s ../run/systemd/resolve/stub-resolv.conf /usr/etc/resolv.conf && \
             ln -s /gone/hosts /deep/hosts && ln -s ../../usr/share/zoneinfo/UTC /usr/etc/localtime && \
             ln -s second /deep/first && ln -s ../far/third /deep/second && ln -s nowhere /deep/dir\n\
         FROM scratch\n\
         COPY --from=links /bin /bin\nCOPY --from=links /usr /usr\nCOPY --from=links /deep /deep\n\
         COPY root/ /\n\
         RUN --mount=type=secret,id=s,target=/deep/first --mount=type=tmpfs,target=/deep/dir \
             cat /deep/first && echo x > /deep/dir/x && wc -l < /etc/resolv.conf\n\
         CMD [\"cat\", \"/etc/resolv.conf\"]\n",
    );
    std::fs::create_dir(context.at("root")).unwrap();
    std::os::unix::fs::symlink("usr/etc", context.at("root/etc")).unwrap();
    std::fs::write(lab.path("secret"), "word\n").unwrap();
    let secret = format!("id=s,src={}", lab.path("secret").display());
    let built = lab
        .build(&context)
        .args(["--secret", &secret])
        .tag("x")
        .built();
    assert!(built.log().contains("word\n"), "{}", built.log());
    // Nothing of the mount points stays in the layers: neither the targets nor what is above them.
    let out = lab.path("out");
    let files = lab.build(&context).args(["--secret", &secret]);
    files.arg("-o").arg(&out).built();
    for gone in ["usr/run/systemd", "gone", "far", "deep/nowhere"] {
        assert!(!out.join(gone).exists(), "{gone}");
    }
    assert!(out.join("usr/run").is_dir());
    lab.kiln(["run", "--rm", "x"]).output().ok();
    let zone = lab.path("zone");
    std::fs::write(&zone, "zone\n").unwrap();
    let volume = format!("{}:/etc/localtime:ro", zone.display());
    let run = lab.kiln(["run", "--rm", "--network", "none", "-v", &volume, "x"]);
    let out = run.args(["cat", "/etc/localtime"]).output().ok();
    assert_eq!(out.stdout(), "zone");
}

/// Mounts look as they do with Docker.
#[test]
fn mounts_have_the_attributes_that_were_asked_for() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\n\
         RUN --mount=type=secret,id=s,target=/run/tool,mode=0755 /run/tool\n\
         RUN --mount=type=secret,id=s,target=/run/tool,mode=0644 ! sh -c /run/tool && echo not executed\n\
         RUN --mount=type=tmpfs,target=/t --mount=type=tmpfs,target=/dev/shm,size=1048576 \
             grep -E ' (/t|/dev/shm) ' /proc/mounts; df -k /dev/shm | tail -1\n\
         RUN if [ -e /proc/kcore ]; then [ -L /dev/core ]; else [ ! -L /dev/core ]; fi\n",
    );
    std::fs::write(lab.path("secret"), "#!/bin/sh\necho executed\n").unwrap();
    let secret = format!("id=s,src={}", lab.path("secret").display());
    let built = lab.build(&context).args(["--secret", &secret]).built();
    let log = built.log();
    assert!(log.starts_with("executed\n"), "{log}");
    assert!(log.contains("not executed\n"), "{log}");
    let mounts: Vec<&str> = log.lines().filter(|l| l.contains(" tmpfs rw")).collect();
    assert_eq!(mounts.len(), 2, "{log}");
    for line in mounts {
        assert!(
            line.starts_with("tmpfs /") && line.contains("nosuid"),
            "{line}"
        );
    }
    assert!(log.contains("tmpfs                     1024"), "{log}");
}

//! Cache mounts that hosts share through a registry, a directory or a bucket. A store of its own
//! stands for a host.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::{Path, PathBuf};

use kiln_tests::place::{Place, config, key_pair, on_host, sharing_mounts};
use kiln_tests::servers::{bucket_server, empty_registry};
use kiln_tests::{Built, Context, Fault, Kiln, Lab, Proxy, SharedMounts, tool};

/// A step with a mount as package managers have it: a large part that stays, and a log.
const FETCH: &str = "FROM busybox
ARG RUN=1
RUN --mount=type=cache,id=packages,target=/c,sharing=locked \\
    mkdir -p /c/store; \\
    test -e /c/store/big || head -c 12000000 /dev/urandom > /c/store/big; \\
    echo run $RUN >> /c/log; \\
    cp /c/log /log; md5sum < /c/store/big >> /log; cat /log
";

fn fetch(lab: &Lab) -> Context {
    lab.context("fetch", &[("Dockerfile", FETCH)])
}

/// The build of a host, which reads mounts from and writes them to a place. Another `run` is
/// another step.
fn sharing(lab: &Lab, host: &str, context: &Context, run: &str, at: &[String; 2]) -> Kiln {
    sharing_mounts(lab, host, context, at).args(["--build-arg", &format!("RUN={run}")])
}

/// The directory of a host's cache mount.
fn mount_dir(lab: &Lab, host: &str, id: &str) -> PathBuf {
    let inspected = lab.kiln(["cache", "inspect", id]);
    let inspected = inspected.env("KILN_ROOT", lab.path(host)).output();
    let value: serde_json::Value = serde_json::from_str(inspected.ok().stdout()).unwrap();
    value[0]["Path"].as_str().unwrap().into()
}

fn mount_ids(lab: &Lab, host: &str) -> String {
    let list = lab.kiln(["cache", "ls", "-q"]);
    let list = list.env("KILN_ROOT", lab.path(host)).output();
    list.ok().stdout().to_owned()
}

/// Bytes of the blobs in a directory, and their files.
fn blobs(dir: &Path) -> (u64, Vec<PathBuf>) {
    let files: Vec<PathBuf> = std::fs::read_dir(dir.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let sum = files.iter().map(|f| f.metadata().unwrap().len()).sum();
    (sum, files)
}

#[test]
fn a_second_host_begins_with_the_mount_of_the_first() {
    for place in Place::all() {
        let lab = Lab::new();
        let (at, context) = (place.specs(&lab, None), fetch(&lab));
        let first = sharing(&lab, "a", &context, "1", &at).built();
        let shared = first.shared_mounts();
        assert_eq!((shared.brought, shared.sent), (0, 1), "{first:?}");
        assert!(shared.bytes > 12_000_000, "{shared:?}");

        let second = sharing(&lab, "b", &context, "2", &at).built();
        let (before, after) = (first.printed(), second.printed());
        assert_eq!(after, ["run 1", "run 2", &before[1]], "{second:?}");
        let shared = second.shared_mounts();
        assert_eq!((shared.brought, shared.sent), (1, 1), "{second:?}");
        // What has changed is a line of a log.
        assert!(shared.bytes < 4_000_000, "{shared:?}");

        // The first host has a mount of its own, which is not replaced.
        let third = sharing(&lab, "a", &context, "3", &at).built();
        assert_eq!(third.printed()[..2], ["run 1", "run 3"], "{third:?}");
        assert_eq!(third.shared_mounts().brought, 0);
        // The last one that was left is the one.
        let fourth = sharing(&lab, "c", &context, "4", &at).built();
        assert_eq!(fourth.printed()[..3], ["run 1", "run 3", "run 4"]);
        let check = lab.kiln(["fsck"]).env("KILN_ROOT", lab.path("b")).output();
        check.ok();
    }
}

#[test]
fn a_small_change_sends_little_and_none_sends_nothing() {
    let lab = Lab::new();
    let at = Place::Directory.specs(&lab, None);
    let context = fetch(&lab);
    sharing(&lab, "a", &context, "1", &at).built();
    let (before, _) = blobs(&lab.path("shared"));
    sharing(&lab, "a", &context, "2", &at).built();
    let (after, _) = blobs(&lab.path("shared"));
    assert!(before > 12_000_000, "{before}");
    assert!(after - before < 4_000_000, "{before} {after}");

    let reading = lab.context(
        "reading",
        &[(
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=cache,id=packages,target=/c,readonly cat /c/log\n",
        )],
    );
    let built = sharing(&lab, "a", &reading, "1", &at).built();
    let shared = built.shared_mounts();
    assert_eq!((shared.sent, shared.there, shared.bytes), (0, 1, 0));
    // The same content on a host that knows nothing of what is there.
    let built = sharing(&lab, "b", &reading, "1", &at).built();
    assert_eq!(
        (built.shared_mounts().brought, built.shared_mounts().there),
        (1, 1)
    );
    assert_eq!(blobs(&lab.path("shared")).0, after);
}

#[test]
fn steps_that_are_cached_bring_nothing() {
    let lab = Lab::new();
    let context = fetch(&lab);
    let at = Place::Directory.specs(&lab, None);
    let results = format!("type=local,dest={},mode=max", lab.path("results").display());
    let first = sharing(&lab, "a", &context, "1", &at).args(["--cache-to", &results]);
    let first = first.built();
    let results = format!("type=local,src={}", lab.path("results").display());
    let second = sharing(&lab, "b", &context, "1", &at).args(["--cache-from", &results]);
    let second = second.built();
    assert_eq!((second.counts.1, &second.image), (0, &first.image));
    assert_eq!(second.shared_mounts(), SharedMounts::default());
    assert_eq!(mount_ids(&lab, "b"), "");
}

#[test]
fn mounts_of_a_build_that_fails_are_shared_and_those_of_a_killed_step_are_not() {
    let lab = Lab::new();
    let at = Place::Directory.specs(&lab, None);
    let failing = lab.dockerfile(
        "FROM busybox
RUN --mount=type=cache,id=one,target=/c echo one > /c/file
RUN --mount=type=cache,id=two,target=/c echo two > /c/file; false
",
    );
    sharing(&lab, "a", &failing, "1", &at).fails();
    // The second stage is in the middle of writing when the first one fails.
    let killed = lab.dockerfile(
        "FROM busybox AS one
RUN --mount=type=cache,id=signal,target=/s until test -e /s/go; do sleep 0.1; done; false
FROM busybox AS two
RUN --mount=type=cache,id=three,target=/c --mount=type=cache,id=signal,target=/s \
    echo three > /c/file; touch /s/go; sleep 100
FROM busybox
RUN --mount=type=bind,from=one,target=/1 --mount=type=bind,from=two,target=/2 true
",
    );
    sharing(&lab, "a", &killed, "1", &at).fails();
    let reading = lab.dockerfile(
        "FROM busybox
RUN --mount=type=cache,id=one,target=/1 --mount=type=cache,id=two,target=/2 \
    --mount=type=cache,id=three,target=/3 cat /1/file /2/file; ls /3
",
    );
    let built = sharing(&lab, "b", &reading, "1", &at).built();
    assert_eq!(built.printed(), ["one", "two"], "{built:?}");
}

#[test]
fn mounts_of_all_kinds_of_sharing_are_shared() {
    for how in ["shared", "locked", "private"] {
        let lab = Lab::new();
        let at = Place::Directory.specs(&lab, None);
        let text = format!(
            "FROM busybox AS one
RUN --mount=type=cache,id=m,target=/c,sharing={how} sleep 1; ls /c; touch /c/one; touch /one
FROM busybox AS two
RUN --mount=type=cache,id=m,target=/c,sharing={how} sleep 1; ls /c; touch /c/two; touch /two
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
"
        );
        let context = lab.dockerfile(&text);
        let first = sharing(&lab, "a", &context, "1", &at).built();
        let kept = if how == "private" { 2 } else { 1 };
        assert_eq!(first.shared_mounts().sent, kept, "{how}: {first:?}");
        let second = sharing(&lab, "b", &context, "1", &at).built();
        assert_eq!(second.shared_mounts().brought, kept, "{how}: {second:?}");
        let mut found = second.printed();
        found.sort();
        found.dedup();
        assert_eq!(found, ["one", "two"], "{how}: {second:?}");
    }
}

#[test]
fn a_mount_that_a_step_uses_is_left_alone() {
    let lab = Lab::new();
    let at = Place::Directory.specs(&lab, None);
    let context = |name: &str, command: &str| {
        let text = format!("FROM busybox\nRUN --mount=type=cache,id=m,target=/c {command}\n");
        lab.context(name, &[("Dockerfile", &text)])
    };
    let writing = context(
        "writing",
        "touch /c/begun; until test -e /c/go; do sleep 0.1; done; echo all > /c/file",
    );
    let writer = sharing(&lab, "a", &writing, "1", &at).start();
    // It runs beside the other one, and is over before that.
    let beside = context("beside", "until test -e /c/begun; do sleep 0.1; done");
    let built = sharing(&lab, "a", &beside, "1", &at).built();
    assert_eq!(
        (built.shared_mounts().sent, built.shared_mounts().failed),
        (0, 1)
    );
    let told = format!("{}{}", built.other, built.warnings.join("\n"));
    assert!(told.contains("the cache mount `m` is not sent"), "{told}");
    assert!(!lab.path("shared/records-v1").exists());

    on_host(&lab, "a", &context("go", "touch /c/go")).built();
    let built = Built::of(&writer.wait().ok());
    assert_eq!(built.shared_mounts().sent, 1, "{built:?}");
    let reading = context("reading", "cat /c/file");
    let built = sharing(&lab, "b", &reading, "1", &at).built();
    assert_eq!(built.printed(), ["all"]);
}

#[test]
fn hosts_that_write_at_once_leave_one_whole_mount() {
    for place in Place::all() {
        let lab = Lab::new();
        let at = place.specs(&lab, None);
        let text = "FROM busybox
ARG RUN
RUN --mount=type=cache,id=m,target=/c \\
    echo $RUN > /c/who; head -c 3000000 /dev/urandom > /c/$RUN; md5sum < /c/$RUN > /c/sum
";
        let context = lab.dockerfile(text);
        let hosts = ["a", "b", "c", "d"];
        let to = &at[1];
        let builds = hosts.map(|host| {
            on_host(&lab, host, &context)
                .args(["--build-arg", &format!("RUN={host}")])
                .args(["--cache-mount-to", to])
                .start()
        });
        for build in builds {
            let built = Built::of(&build.wait().ok());
            assert_eq!(built.shared_mounts().sent, 1, "{built:?}");
        }
        let reading = lab.dockerfile(
            "FROM busybox
RUN --mount=type=cache,id=m,target=/c ls /c; who=$(cat /c/who); \\
    md5sum < /c/$who | cmp - /c/sum && echo whole\n",
        );
        let built = sharing(&lab, "e", &reading, "1", &at).built();
        let found = built.printed();
        assert_eq!((found.len(), found[3].as_str()), (4, "whole"), "{built:?}");
        assert!(hosts.contains(&found[0].as_str()), "{found:?}");
    }
}

#[test]
fn a_damaged_piece_costs_a_warning_and_is_replaced() {
    for damage in ["remove", "damage", "truncate"] {
        let lab = Lab::new();
        let (at, context) = (Place::Directory.specs(&lab, None), fetch(&lab));
        sharing(&lab, "a", &context, "1", &at).built();
        let (_, files) = blobs(&lab.path("shared"));
        let largest = files.iter().max_by_key(|f| f.metadata().unwrap().len());
        let largest = largest.unwrap();
        let length = usize::try_from(largest.metadata().unwrap().len()).unwrap();
        match damage {
            "remove" => std::fs::remove_file(largest).unwrap(),
            "damage" => std::fs::write(largest, vec![7; length]).unwrap(),
            _ => std::fs::write(largest, vec![7; length / 2]).unwrap(),
        }
        let second = on_host(&lab, "b", &context).args(["--cache-mount-from", &at[0]]);
        let second = second.built();
        assert_eq!(second.printed()[0], "run 1", "{damage}: {second:?}");
        assert_eq!(second.printed().len(), 2, "{damage}: the mount was empty");
        let told = "the cache mount `packages` is not used";
        let warned = format!("{}{}", second.other, second.warnings.join("\n"));
        assert_eq!(warned.matches(told).count(), 1, "{damage}: {warned}");

        // Whoever finds the damage and has the content puts it right. Here that is the first host,
        // without its mount's being known to be the same.
        let dir = mount_dir(&lab, "a", "packages");
        let kept = lab.path("kept");
        let copy = |from: &Path, to: &Path| {
            let [from, to] = [from, to].map(|p| p.to_str().unwrap());
            tool("cp", ["-a", from, to]);
        };
        copy(&dir, &kept);
        let whole = lab.dockerfile(
            "FROM busybox\nRUN --mount=type=cache,id=packages,target=/c \
             --mount=type=bind,source=kept,target=/kept cp -a /kept/. /c/\n",
        );
        copy(&kept, &whole.path().join("kept"));
        let mended = sharing(&lab, "c", &whole, "1", &at).built();
        assert_eq!(mended.shared_mounts().sent, 1, "{damage}: {mended:?}");
        let third = sharing(&lab, "d", &context, "2", &at).built();
        assert_eq!(third.shared_mounts().brought, 1, "{damage}: {third:?}");
        assert_eq!(third.printed()[..2], ["run 1", "run 2"], "{damage}");
    }
}

#[test]
fn mounts_are_believed_from_writers_that_are_accepted() {
    let lab = Lab::new();
    let dir = lab.path("shared").display().to_string();
    let remotes = format!(
        "mounts-from = [\"type=local,src={dir}\"]\nmounts-to = [\"type=local,dest={dir}\"]\n"
    );
    let [good, good_public] = key_pair(&lab, "good");
    let [bad, _] = key_pair(&lab, "bad");
    let accepting = config(
        &lab,
        "accepting.toml",
        &format!("{remotes}read-only = true\naccept-keys = [\"{good_public}\"]"),
    );
    let context = fetch(&lab);
    for (number, (writer, lines)) in [
        (remotes.clone(), 2),
        (format!("{remotes}sign-key = \"{bad}\""), 2),
        (format!("{remotes}sign-key = \"{good}\""), 3),
    ]
    .into_iter()
    .enumerate()
    {
        let _ = std::fs::remove_dir_all(&dir);
        let writing = config(&lab, "writing.toml", &writer);
        let first = on_host(&lab, &format!("w{number}"), &context).env("KILN_CONFIG", &writing);
        assert_eq!(first.built().shared_mounts().sent, 1);
        let second = on_host(&lab, &format!("r{number}"), &context).env("KILN_CONFIG", &accepting);
        let second = second.built();
        assert_eq!(second.printed().len(), lines, "{writer}: {second:?}");
        let refused = format!("{}{}", second.other, second.warnings.join("\n"));
        assert_eq!(
            refused.contains("a record is refused"),
            lines == 2,
            "{refused}"
        );
    }
}

#[test]
fn namespaces_and_settings_of_a_host() {
    let lab = Lab::new();
    let dir = lab.path("shared");
    let remotes = format!(
        "mounts-from = [\"type=local,src={0}\"]\nmounts-to = [\"type=local,dest={0}\"]\n",
        dir.display()
    );
    let context = fetch(&lab);
    for (host, namespace, lines) in [("a", "one", 2), ("b", "two", 2), ("c", "one", 3)] {
        let section = format!("{remotes}namespace = \"{namespace}\"");
        let file = config(&lab, "ns.toml", &section);
        let built = on_host(&lab, host, &context)
            .env("KILN_CONFIG", file)
            .built();
        assert_eq!(
            built.printed().len(),
            lines,
            "{host} {namespace}: {built:?}"
        );
    }

    let before = blobs(&dir).0;
    let file = config(&lab, "ro.toml", &format!("{remotes}read-only = true"));
    let built = on_host(&lab, "d", &context)
        .env("KILN_CONFIG", &file)
        .built();
    assert_eq!(built.mounts, None, "{built:?}");
    assert_eq!(blobs(&dir).0, before);
    let to = format!("type=local,dest={}", dir.display());
    let refused = on_host(&lab, "d", &context).env("KILN_CONFIG", &file);
    let refused = refused.args(["--cache-mount-to", &to]).fails();
    assert!(refused.err.contains("set to read-only"), "{refused}");
    let refused = on_host(&lab, "d", &context);
    let refused = refused
        .args(["--cache-mount-to", &format!("{to},mode=max")])
        .fails();
    assert!(
        refused.err.contains("for cache mounts knows no `mode`"),
        "{refused}"
    );
}

#[test]
fn mounts_begin_empty_where_that_is_asked_for() {
    let lab = Lab::new();
    let (at, context) = (Place::Directory.specs(&lab, None), fetch(&lab));
    sharing(&lab, "a", &context, "1", &at).built();
    let second = sharing(&lab, "b", &context, "1", &at).arg("--no-cache-mounts");
    assert_eq!(second.built().printed().len(), 2);
    // And secrets are no part of what is shared.
    let (_, files) = blobs(&lab.path("shared"));
    let secret = lab.dockerfile(
        "FROM busybox\nRUN --mount=type=secret,id=s,target=/c/s --mount=type=cache,id=s,target=/c \
         cat /c/s > /dev/null; ls /c\n",
    );
    std::fs::write(lab.path("s"), "geheim").unwrap();
    let src = format!("id=s,src={}", lab.path("s").display());
    let built = sharing(&lab, "a", &secret, "1", &at).args(["--secret", &src]);
    assert_eq!(built.built().shared_mounts().sent, 1);
    assert!(blobs(&lab.path("shared")).1.len() > files.len());
    let reading = lab.dockerfile(
        "FROM busybox\nRUN --mount=type=cache,id=s,target=/c wc -c < /c/s || echo none\n",
    );
    let built = sharing(&lab, "c", &reading, "1", &at).built();
    assert!(["0", "none"].contains(&built.printed().last().unwrap().as_str()));
}

fn faults(place: &Place, upstream: &str) {
    let lab = Lab::new();
    let context = fetch(&lab);
    let clean = on_host(&lab, "clean", &context).built();
    assert_eq!(clean.printed().len(), 2);
    let statuses = [404, 403, 500].map(Fault::Status);
    let others = [Fault::Reset, Fault::Truncated, Fault::Wrong];
    for (number, fault) in statuses.into_iter().chain(others).enumerate() {
        for nth in [1, 5] {
            let proxy = Proxy::start(upstream.to_owned(), fault, nth);
            let at = place.specs(&lab, Some(&proxy.address()));
            for host in ["a", "b"] {
                let host = format!("{host}{number}-{nth}");
                let built = sharing(&lab, &host, &context, "1", &at).built();
                let lines = built.printed();
                // Either all of a mount or nothing of it.
                let whole = match lines.len() {
                    2 => lines[0] == "run 1",
                    n => n > 2 && lines[..n - 1].iter().all(|l| l == "run 1"),
                };
                assert!(whole, "{fault:?} on every {nth}: {built:?}");
            }
            assert!(proxy.spoiled() > 0, "{fault:?}");
        }
    }
}

#[test]
fn a_registry_that_fails_costs_time_and_nothing_else() {
    let registry = empty_registry();
    let upstream = registry.address();
    faults(&Place::Registry(registry), &upstream);
}

#[test]
fn a_bucket_that_fails_costs_time_and_nothing_else() {
    let server = bucket_server();
    let upstream = server.address();
    faults(&Place::Bucket(server), &upstream);
}

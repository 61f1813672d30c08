//! Mounts of RUN steps, and what went wrong with them in other engines. Each test is named after
//! the incident that it repeats.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Canary, Lab, Tarball};

/// Source paths that try to leave the tree that they are taken from.
fn escapes(canary: &Canary) -> Vec<String> {
    let path = canary.path();
    vec![
        path.clone(),
        format!("/proc/self/root{path}"),
        format!("../../../../../../..{path}"),
    ]
}

#[test]
fn cve_2024_23651_source_of_a_cache_mount_is_swapped_for_a_link() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let target = canary.path();
    // One step swaps a directory of the shared cache for a link to the host, the others mount it.
    let swap = format!(
        "FROM busybox AS swap\nRUN --mount=type=cache,id=race,target=/c mkdir -p /c/sel; \
         i=0; while [ $i -lt 3000 ]; do mv /c/sel /c/d; ln -s {target} /c/sel; rm /c/sel; mv /c/d /c/sel; i=$((i+1)); done; touch /done\n"
    );
    let mut text = swap;
    let mut last = "FROM busybox\nCOPY --from=swap /done /\n".to_owned();
    for n in 0..30 {
        text.push_str(&format!(
            "FROM busybox AS m{n}\nRUN --mount=type=cache,id=race,target=/m,source=sel cat /m/secret > /seen 2>/dev/null; echo over > /m/writable; touch /seen\n"
        ));
        last.push_str(&format!("COPY --from=m{n} /seen /seen{n}\n"));
    }
    for _ in 0..3 {
        let context = lab.dockerfile(&format!("{text}{last}"));
        // A mount that finds a link may fail; it must not reach the host.
        let out = lab
            .build(&context)
            .arg("--no-cache")
            .tag("x")
            .output()
            .orderly();
        if out.succeeded() {
            let seen = lab.run("x", &["sh", "-c", "cat /seen*"]);
            assert_eq!(seen, "", "the canary was read");
        }
        assert!(!out.err.contains(canary.secret()));
        canary.assert_untouched();
    }
}

#[test]
fn cve_2024_11218_bind_from_a_stage_that_changes_meanwhile() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let target = canary.path();
    // A stage is immutable once it can be named: what the writer does later is not seen.
    let context = lab.dockerfile(&format!(
        "FROM busybox AS one\nRUN mkdir /d && echo mine > /d/secret\n\
         FROM one AS writer\nRUN i=0; while [ $i -lt 500 ]; do rm -rf /d; ln -s {target} /d; rm /d; mkdir /d; i=$((i+1)); done; ln -s x /d/done\n\
         FROM busybox AS reader\nRUN --mount=from=one,source=/d,target=/m i=0; while [ $i -lt 200 ]; do cat /m/secret; i=$((i+1)); done | sort -u > /seen\n\
         FROM busybox\nCOPY --from=reader /seen /seen\nCOPY --from=writer /d /d\n"
    ));
    lab.build(&context).tag("x").built();
    assert_eq!(lab.run("x", &["cat", "/seen"]), "mine");
    canary.assert_untouched();
}

#[test]
fn cve_2024_1753_bind_source_is_a_link_to_the_root() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    for target in [
        "/".to_owned(),
        "../../../../..".to_owned(),
        "/proc/self/root".to_owned(),
        canary.path(),
    ] {
        let context = lab.dockerfile(&format!(
            "FROM busybox AS evil\nRUN ln -s {target} /rootdir && mkdir /mid && ln -s {target} /mid/link\n\
             FROM busybox\n\
             RUN --mount=type=bind,from=evil,source=/rootdir,target=/m,rw cat /m{0}/secret /m/secret; echo over > /m{0}/writable; rm -rf /m{0}; true\n",
            canary.path()
        ));
        let out = lab.build(&context).output().orderly();
        assert!(!out.err.contains(canary.secret()), "{out}");
        context.dockerfile(&format!(
            "FROM busybox AS evil\nRUN mkdir /mid && ln -s {target} /mid/link\nFROM busybox\n\
             RUN --mount=type=bind,from=evil,source=/mid/link/..{0},target=/m,rw cat /m/secret; echo over > /m/writable; true\n",
            canary.path()
        ));
        let out = lab.build(&context).output().orderly();
        assert!(!out.err.contains(canary.secret()), "{out}");
        canary.assert_untouched();
    }
    // The same with a context that has the link.
    let context = lab.dockerfile("FROM busybox\nRUN --mount=source=link,target=/m,rw cat /m/secret; echo over > /m/writable; true\n");
    context.link("link", &canary.path());
    let out = lab.build(&context).output().orderly();
    assert!(!out.err.contains(canary.secret()), "{out}");
    canary.assert_untouched();
}

#[test]
fn cve_2024_9675_ids_and_sources_of_cache_mounts_leave_their_directory() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let mut specs = Vec::new();
    for id in [
        "../../..",
        "../../../../../../canary",
        "/",
        "..",
        ".",
        "a/../../b",
        "%2e%2e%2f%2e%2e",
        "．．／",
        "a\\..\\b",
    ] {
        specs.push(format!("id={id}"));
    }
    for source in escapes(&canary) {
        specs.push(format!("id=plain,source={source}"));
    }
    let named = lab.context("named", &[("f", "x")]);
    for source in escapes(&canary) {
        specs.push(format!("id=named,from=ctx,source={source}"));
    }
    for spec in specs {
        let context = lab.dockerfile(&format!(
            "FROM busybox\nRUN --mount=type=cache,target=/m,{spec} find /m; cat /m/secret; echo over > /m/writable; true\n"
        ));
        let named = format!("ctx={}", named.path().display());
        let out = lab
            .build(&context)
            .args(["--build-context", &named])
            .output()
            .orderly();
        assert!(!out.err.contains(canary.secret()), "{spec}: {out}");
        assert!(!out.err.contains("meta-v1.db"), "{spec}: {out}");
        canary.assert_untouched();
    }
}

#[test]
fn cve_2024_9407_options_of_a_bind_mount_are_a_closed_list() {
    let lab = Lab::new();
    for option in [
        "bind-propagation=suid",
        "bind-propagation=shared",
        "bind-propagation=rshared",
        "propagation=dev",
        "suid",
        "dev",
        "exec=true",
        "options=dev",
        "rw,suid",
        "bind-propagation=",
        "source=.,dev",
    ] {
        let context = lab.dockerfile(&format!(
            "FROM busybox\nRUN --mount=type=bind,target=/m,{option} true\n"
        ));
        lab.build(&context).fails().says(&["\"lines\":[2,2]"]);
    }
}

#[test]
fn cve_2024_23652_mount_points_are_removed_without_following_links() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let target = canary.path();
    std::fs::create_dir(format!("{target}/stub")).unwrap();
    std::fs::write(format!("{target}/file"), "").unwrap();
    canary.retake();
    let context = lab.dockerfile(&format!(
        "FROM busybox\nRUN --mount=type=cache,target=/a/b/stub --mount=type=secret,id=s,target=/a/b/file,required=false \
         --mount=type=tmpfs,target=/x/stub mv /a/b /a/away 2>/dev/null; mv /a /gone; mkdir -p /a; ln -s {target} /a/b; mv /x /y; ln -s {target} /x; true\n"
    ));
    lab.build(&context).output().orderly();
    canary.assert_untouched();
}

#[test]
fn cve_2021_30465_targets_of_mounts_are_links() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let target = canary.path();
    for kind in ["cache", "tmpfs", "bind", "secret"] {
        let extra = if kind == "secret" { ",id=s" } else { "" };
        let context = lab.context("context", &[("f", "x")]);
        context.dockerfile(&format!(
            "FROM busybox\nRUN ln -s {target} /link && ln -s ../../../../../..{target} /up\n\
             RUN --mount=type={kind},target=/link/new{extra} --mount=type={kind},target=/up/other{extra} touch /link/new/x /up/other/x; echo in > /link/writable; true\n"
        ));
        let secret = lab.path("s");
        std::fs::write(&secret, "s").unwrap();
        lab.build(&context)
            .arg(format!("--secret=id=s,src={}", secret.display()))
            .output()
            .orderly();
        canary.assert_untouched();
    }
    // A volume of `kiln run` likewise.
    let image = lab.context(
        "image",
        &[(
            "Dockerfile",
            &format!("FROM busybox\nRUN ln -s {target} /link\n"),
        )],
    );
    lab.build(&image).tag("x").built();
    let volume = lab.context("volume", &[]);
    lab.kiln(["run", "--rm", "-v"])
        .arg(format!("{}:/link/deep", volume.path().display()))
        .args(["x", "sh", "-c", "echo in > /link/writable; ls /link"])
        .output()
        .orderly();
    canary.assert_untouched();
}

#[test]
fn ghsa_q6r4_workdir_through_a_link() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let target = canary.path();
    for line in [
        "WORKDIR /link/made".to_owned(),
        "WORKDIR /link".to_owned(),
        format!("WORKDIR ../../../../..{target}/made"),
        "USER nobody\nWORKDIR /link/owned".to_owned(),
        "COPY --chown=nobody f /link/copied".to_owned(),
        "COPY f /link/".to_owned(),
        "ADD --chmod=777 f /link/writable".to_owned(),
    ] {
        let context = lab.context("context", &[("f", "copied")]);
        context.dockerfile(&format!(
            "FROM busybox\nRUN ln -s {target} /link\n{line}\nRUN pwd\n"
        ));
        lab.build(&context).tag("x").output().orderly();
        canary.assert_untouched();
        lab.kiln(["run", "--rm", "-w", "/link/run", "busybox", "true"])
            .output()
            .orderly();
        canary.assert_untouched();
    }
}

#[test]
fn cve_2022_23648_volumes_of_an_image() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let target = canary.path();
    let context = lab.dockerfile(&format!(
        "FROM busybox\nRUN ln -s {target} /link\nVOLUME /../../../../..{target}\nVOLUME /link\nVOLUME [\"/link/../secret\", \"relative\"]\n"
    ));
    lab.build(&context).tag("x").output().orderly();
    let out = lab
        .kiln(["run", "--rm", "x", "sh", "-c"])
        .arg(format!(
            "cat {target}/secret /link/secret; echo over > {target}/writable; true"
        ))
        .output()
        .orderly();
    assert!(
        !out.err.contains(canary.secret()) && !out.stdout().contains(canary.secret()),
        "{out}"
    );
    canary.assert_untouched();
}

#[test]
fn ghsa_32pv_file_operations_with_odd_destinations() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let sentinel = lab.path("tmp").join("sentinel");
    std::fs::write(&sentinel, "here").unwrap();
    let target = canary.path();
    let context = lab.context("context", &[("f", "x"), ("d/g", "y")]);
    for line in [
        "COPY f .".to_owned(),
        "COPY f ./".to_owned(),
        "COPY d /".to_owned(),
        "COPY d .".to_owned(),
        "COPY f \"\"".to_owned(),
        "COPY [\"d\", \"\"]".to_owned(),
        "COPY f ../../../../tmp/".to_owned(),
        "COPY --from=evil /tmp /tmp".to_owned(),
        "COPY --from=evil /canary/ /".to_owned(),
        "COPY --from=evil --parents /canary/./secret /x/".to_owned(),
        "ADD d ../..".to_owned(),
        "COPY --link d /tmp/../..".to_owned(),
        "COPY --from=evil /abs /abs".to_owned(),
    ] {
        context.dockerfile(&format!(
            "FROM busybox AS evil\nRUN rm -rf /tmp && ln -s {target} /tmp && ln -s {target} /canary && ln -s /tmp /abs\nFROM busybox\nRUN rm -rf /tmp && ln -s {target} /tmp\n{line}\nRUN rm -rf /tmp/* /tmp\n"
        ));
        let out = lab.build(&context).output().orderly();
        assert!(!out.err.contains(canary.secret()), "{line}: {out}");
        canary.assert_untouched();
        assert_eq!(
            std::fs::read_to_string(&sentinel).unwrap(),
            "here",
            "{line}"
        );
    }
    std::fs::remove_file(sentinel).unwrap();
}

#[test]
fn ghsa_xjvp_essential_directories_are_links() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    for name in ["dev", "proc", "sys", "etc", "run", "tmp"] {
        let tar = Tarball::busybox_without(&[name]).link(name, &canary.path());
        lab.import(&tar.bytes(), "evil");
        let context = lab.dockerfile(
            "FROM evil\nRUN echo x > /tmp/x; ls /dev /proc /sys /etc; true\nWORKDIR /run/w\n",
        );
        let out = lab.build(&context).output().orderly();
        assert!(!out.err.contains(canary.secret()), "{name}: {out}");
        lab.kiln(["run", "--rm", "evil", "true"]).output().orderly();
        canary.assert_untouched();
    }
}

#[test]
fn cve_2019_18466_results_are_written_inside_their_destination() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let target = canary.path();
    let context = lab.context("context", &[("f", "over")]);
    context.dockerfile(&format!(
        "FROM busybox AS b\nRUN mkdir -p /o/d && ln -s {target} /o/link && ln -s {target}/writable /o/file && ln -s ../../../../../..{target} /o/up\n\
         FROM scratch\nCOPY --from=b /o /\nCOPY f /link/new\n"
    ));
    let out = lab.path("out");
    lab.build(&context)
        .args(["-o", out.to_str().unwrap()])
        .output()
        .orderly();
    canary.assert_untouched();
    // A destination that already has links in it.
    let plain = lab.context(
        "plain",
        &[
            (
                "Dockerfile",
                "FROM scratch\nCOPY writable /a/writable\nCOPY writable /writable\n",
            ),
            ("writable", "over"),
        ],
    );
    std::fs::create_dir_all(&out).unwrap();
    for (name, to) in [
        ("a", target.clone()),
        ("writable", format!("{target}/writable")),
    ] {
        let _ = std::fs::remove_file(out.join(name));
        std::os::unix::fs::symlink(to, out.join(name)).unwrap();
    }
    lab.build(&plain)
        .args(["-o", out.to_str().unwrap()])
        .output()
        .orderly();
    canary.assert_untouched();
}

//! `RUN --device`: devices that files of the Container Device Interface describe.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Kiln, Lab, setting};

/// A node, a variable, a mount and a group; and other devices of the same kind.
const FILES: [(&str, &str); 4] = [
    (
        "a.yaml",
        r#"
cdiVersion: "0.6.0"
kind: vendor.com/fuse
containerEdits:
  env: [OF_FILE=yes]
devices:
- name: first
  containerEdits:
    env: [FIRST=1]
    deviceNodes:
    - {path: /dev/my/fuse, hostPath: /dev/fuse, permissions: rw, uid: 7, gid: 8, fileMode: 416}
    mounts:
    - {hostPath: DIR/lib, containerPath: /opt/lib, options: [ro, nosuid, nodev, rbind, rprivate]}
    additionalGids: [4242]
- name: second
  annotations: {org.mobyproject.buildkit.device.class: slow}
  containerEdits: {env: [SECOND=2]}
"#,
    ),
    (
        "b.json",
        r#"{"cdiVersion": "0.5.0", "kind": "vendor.com/free", "annotations":
            {"org.mobyproject.buildkit.device.autoallow": "true"},
            "devices": [{"name": "one", "containerEdits": {"env": ["FREE=1"]}}]}"#,
    ),
    (
        "c.yml",
        "cdiVersion: 0.5.0\nkind: vendor.com/hooked\ndevices: [{name: x, containerEdits: {hooks: [{hookName: createContainer, path: /bin/true}]}}]\n",
    ),
    (
        "d.yml",
        "cdiVersion: 0.5.0\nkind: vendor.com/gone\ndevices: [{name: x, containerEdits: {deviceNodes: [{path: /dev/there-is-no-such-node}]}}]\n",
    ),
];

/// A machine with these files.
fn lab() -> Lab {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("cdi")).unwrap();
    std::fs::create_dir_all(lab.path("lib")).unwrap();
    std::fs::write(lab.path("lib/so"), "library").unwrap();
    for (name, text) in FILES {
        let text = text.replace("DIR", &lab.dir().display().to_string());
        std::fs::write(lab.path("cdi").join(name), text).unwrap();
    }
    let base = std::fs::read_to_string(setting("KILN_TEST_CONFIG")).unwrap();
    let config = format!("{base}\n[cdi]\nspec-dirs = [{:?}]\n", lab.path("cdi"));
    std::fs::write(lab.path("config.toml"), config).unwrap();
    lab
}

fn build(lab: &Lab, run: &str) -> Kiln {
    let context = lab.dockerfile(&format!("FROM busybox\n{run}\n"));
    lab.build(&context)
        .env("KILN_CONFIG", lab.path("config.toml"))
}

#[test]
fn a_step_gets_the_node_variables_mounts_and_groups_of_its_device() {
    let lab = lab();
    let script = "env | grep -E '^(OF_FILE|FIRST|SECOND)=' | sort; ls -ln /dev/my/fuse; cat /opt/lib/so; \
                  (: > /opt/lib/new) 2>/dev/null || echo read-only; id -G; \
                  (: <> /dev/my/fuse) && echo opened; mknod /other c 10 229 && (: < /other) && echo by number";
    let run = format!("RUN --device=vendor.com/fuse=first {script}");
    let log = build(&lab, &run).args(["--allow", "device"]).built().log();
    for line in [
        "OF_FILE=yes\n",
        "FIRST=1\n",
        "library",
        "read-only\n",
        "opened\n",
        "by number\n",
    ] {
        assert!(log.contains(line), "no {line:?} in {log}");
    }
    assert!(
        log.contains("crw-r-----    1 7        8          10, 229"),
        "{log}"
    );
    assert!(log.contains(" 4242") && !log.contains("SECOND"), "{log}");
    // Neither the next step nor the image has anything of it.
    let log = build(
        &lab,
        &format!("{run}\nRUN ls /dev/my /opt/lib /opt; env | grep FIRST; (: < /other) || true"),
    )
    .args(["--allow", "device=vendor.com/fuse", "--no-cache"])
    .built()
    .log();
    assert!(
        !log.contains("by number\nFIRST") && log.contains("not permitted"),
        "{log}"
    );
}

#[test]
fn names_stand_for_one_device_the_first_a_class_or_all() {
    let lab = lab();
    let cases = [
        ("vendor.com/fuse=second", "SECOND=2\n"),
        ("vendor.com/fuse=slow", "SECOND=2\n"),
        ("vendor.com/fuse", "FIRST=1\n"),
        ("vendor.com/fuse=*", "FIRST=1\nSECOND=2\n"),
        ("name=vendor.com/fuse=first,required", "FIRST=1\n"),
        ("vendor.com/fuse=unknown", ""),
        ("vendor.com/other", ""),
    ];
    for (name, want) in cases {
        let run = format!("RUN --device={name} env | grep -E '^(FIRST|SECOND)=' | sort");
        let log = build(&lab, &run).args(["--allow", "device"]).built().log();
        assert_eq!(log, want, "{name}");
    }
}

#[test]
fn a_device_must_be_allowed_known_and_usable() {
    let lab = lab();
    let cases: [(&str, &[&str], &str); 6] = [
        (
            "vendor.com/fuse=second",
            &[],
            "device `vendor.com/fuse=second` is not allowed",
        ),
        (
            "vendor.com/fuse=second",
            &["--allow", "device=vendor.com/fuse=first"],
            "is not allowed",
        ),
        (
            "vendor.com/none=x,required",
            &["--allow", "device"],
            "device `vendor.com/none=x` is not known",
        ),
        (
            "vendor.com/hooked",
            &["--allow", "device"],
            "needs hooks, which kiln does not support",
        ),
        (
            "vendor.com/gone",
            &["--allow", "device"],
            "/dev/there-is-no-such-node",
        ),
        ("fuse", &[], "is not the name of a device"),
    ];
    for (name, allow, want) in cases {
        let out = build(&lab, &format!("RUN --device={name} true"))
            .args(allow)
            .fails();
        assert!(out.err.contains(want), "{name}: {out}");
    }
    for allow in [
        "vendor.com/fuse",
        "vendor.com/fuse=*",
        "vendor.com/fuse=second",
    ] {
        let run = "ENV SECOND=of-the-image\nRUN --device=vendor.com/fuse=second sh -c 'env | grep SECOND'";
        let build = build(&lab, run).args(["--no-cache", "--allow", &format!("device={allow}")]);
        assert_eq!(build.built().log(), "SECOND=2\n", "{allow}");
    }
    let log = build(&lab, "RUN --device=vendor.com/free=one echo $FREE")
        .built()
        .log();
    assert_eq!(log, "1\n", "allowed by its own file");
}

#[test]
fn files_that_are_broken_or_contradict_each_other_are_named() {
    let lab = lab();
    std::fs::write(lab.path("cdi/e.yaml"), "cdiVersion: 0.5.0\nkind: [\n").unwrap();
    let out = build(&lab, "RUN --device=vendor.com/none,required true").fails();
    assert!(out.err.contains("cdi/e.yaml"), "{out}");
    let twice = std::fs::read(lab.path("cdi/b.json")).unwrap();
    std::fs::write(lab.path("cdi/f.json"), twice).unwrap();
    let out = build(&lab, "RUN --device=vendor.com/free=one true").fails();
    assert!(
        out.err.contains("described twice") && out.err.contains("f.json"),
        "{out}"
    );
}

#[test]
fn a_device_is_part_of_the_key() {
    let lab = lab();
    let plain = "RUN echo x";
    build(&lab, plain).built();
    let built = build(&lab, "RUN --device=vendor.com/free echo x").built();
    assert_eq!(built.ran().len(), 1);
    build(&lab, "RUN --device=vendor.com/free echo x")
        .built()
        .assert_all_cached();
}

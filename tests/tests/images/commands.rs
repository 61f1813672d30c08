//! Images: pull, import, load, save, tag, rmi, history, inspect, outputs.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Lab, Tarball, setting, skopeo_inspect, tool};
use serde_json::json;

fn built(lab: &Lab) -> String {
    let context = lab.context(
        "context",
        &[
            ("Dockerfile", "FROM busybox\nENV A=1\nRUN echo x > /x && chown 33:33 /x\nCOPY f /f\nLABEL l=v\nCMD [\"cat\", \"/x\"]\n"),
            ("f", "file"),
        ],
    );
    lab.build(&context).tag("app:1").built().image
}

#[test]
fn other_tools_read_what_is_saved() {
    let lab = Lab::new();
    let id = built(&lab);
    let (docker, oci) = (lab.path("docker.tar"), lab.path("oci.tar"));
    lab.kiln(["save", "-o"])
        .arg(&docker)
        .arg("app:1")
        .output()
        .ok();
    lab.kiln(["save", "--format", "oci", "-o"])
        .arg(&oci)
        .arg("app:1")
        .output()
        .ok();

    for source in [
        format!("docker-archive:{}", docker.display()),
        format!("oci-archive:{}", oci.display()),
    ] {
        let config = skopeo_inspect(&source);
        assert_eq!(config["config"]["Labels"], json!({"l": "v"}), "{source}");
        assert_eq!(config["config"]["Cmd"], json!(["cat", "/x"]), "{source}");
        assert_eq!(
            config["rootfs"]["diff_ids"].as_array().unwrap().len(),
            3,
            "{source}"
        );
        assert!(
            config["history"].as_array().unwrap().len() >= 5,
            "{source}: {config}"
        );
    }

    let (layout, bundle) = (lab.path("layout"), lab.path("bundle"));
    tool(
        "skopeo",
        [
            "copy",
            "--quiet",
            &format!("oci-archive:{}", oci.display()),
            &format!("oci:{}:x", layout.display()),
        ],
    );
    tool(
        "umoci",
        [
            "unpack",
            "--image",
            &format!("{}:x", layout.display()),
            bundle.to_str().unwrap(),
        ],
    );
    assert_eq!(
        std::fs::read_to_string(bundle.join("rootfs/x")).unwrap(),
        "x\n"
    );
    assert_eq!(
        std::fs::read_to_string(bundle.join("rootfs/f")).unwrap(),
        "file"
    );

    let podman = |arguments: &[&str]| {
        let root = lab.path("podman");
        let mut all = vec!["--root".to_owned(), root.join("root").display().to_string()];
        all.extend([
            "--runroot".to_owned(),
            root.join("run").display().to_string(),
        ]);
        all.extend(["--storage-driver".to_owned(), "vfs".to_owned()]);
        all.extend(arguments.iter().map(|a| (*a).to_owned()));
        tool("podman", all)
    };
    podman(&["load", "-q", "-i", docker.to_str().unwrap()]);
    let seen: serde_json::Value =
        serde_json::from_str(&podman(&["image", "inspect", "app:1"])).unwrap();
    assert_eq!(format!("sha256:{}", seen[0]["Id"].as_str().unwrap()), id);
}

#[test]
fn saved_images_load_elsewhere_with_the_same_id() {
    let lab = Lab::new();
    let id = built(&lab);
    for format in ["docker", "oci"] {
        let archive = lab.path("a.tar");
        lab.kiln(["save", "--format", format, "-o"])
            .arg(&archive)
            .arg("app:1")
            .output()
            .ok();
        let other = Lab::new();
        other.kiln(["load", "-i"]).arg(&archive).output().ok();
        assert_eq!(other.inspect("app:1")["Id"], id, "{format}");
        assert_eq!(
            other.run("app:1", &["stat", "-c", "%u", "/x"]),
            "33",
            "{format}"
        );
        // Saving again gives the same bytes.
        let again = other.path("again.tar");
        other
            .kiln(["save", "--format", format, "-o"])
            .arg(&again)
            .arg("app:1")
            .output()
            .ok();
        assert!(
            std::fs::read(&archive).unwrap() == std::fs::read(&again).unwrap(),
            "{format}"
        );
    }
    // To stdout and from stdin.
    let out = lab.kiln(["save", "app:1"]).output().ok().out;
    let other = Lab::new();
    other.kiln(["load"]).stdin(out).output().ok();
    assert_eq!(other.inspect("app:1")["Id"], id);
}

#[test]
fn what_is_no_archive_is_called_so() {
    let lab = Lab::new();
    let (file, dir) = (lab.path("words.txt"), lab.path("folder"));
    std::fs::write(&file, "hello\n").unwrap();
    std::fs::create_dir(&dir).unwrap();
    let told = ["it is neither a docker-archive", "nor an OCI layout"];
    for (path, name) in [(&file, "words.txt"), (&dir, "folder")] {
        let out = lab.kiln(["load", "-i"]).arg(path).fails().says(&told);
        assert!(
            out.err.contains(name) && !out.err.contains("layer"),
            "{out}"
        );
    }
    lab.kiln(["load"]).stdin("hello\n").fails().says(&told);
}

#[test]
fn images_of_other_tools_are_loaded() {
    let lab = Lab::new();
    let registry = setting("KILN_TEST_REGISTRY");
    for (to, name) in [("docker-archive", "d.tar"), ("oci-archive", "o.tar")] {
        let archive = lab.path(name);
        let target = format!("{to}:{}:docker.io/library/theirs:{to}", archive.display());
        tool(
            "skopeo",
            [
                "copy",
                "--quiet",
                "--src-tls-verify=false",
                &format!("docker://{registry}/library/busybox"),
                &target,
            ],
        );
        lab.kiln(["load", "-i"]).arg(&archive).output().ok();
        assert_eq!(lab.run(&format!("theirs:{to}"), &["echo", "ok"]), "ok");
    }
}

#[test]
fn names_are_listed_given_and_taken() {
    let lab = Lab::new();
    let id = built(&lab);
    lab.kiln(["tag", "app:1", "example.com:5000/team/app:two"])
        .output()
        .ok();
    let table = lab.kiln(["images"]).output().ok().stdout().to_owned();
    for word in [
        "REPOSITORY",
        "TAG",
        "app",
        "example.com:5000/team/app",
        "two",
    ] {
        assert!(table.contains(word), "{table}");
    }
    let ids = lab.kiln(["images", "-q"]).output().ok().stdout().to_owned();
    assert!(ids.contains(&id[7..19]), "{ids}");
    let formatted = lab
        .kiln(["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .output()
        .ok();
    assert!(
        formatted.stdout().lines().any(|l| l == "app:1"),
        "{formatted}"
    );

    lab.kiln(["rmi", "app:1"]).output().ok();
    lab.kiln(["inspect", "app:1"]).fails().says(&["app:1"]);
    assert_eq!(
        lab.run("example.com:5000/team/app:two", &["cat", "/x"]),
        "x"
    );
    lab.kiln(["rmi", "example.com:5000/team/app:two"])
        .output()
        .ok();
    lab.kiln(["rmi", "app:1"]).fails();
    // The layers are still known to the cache.
    lab.build(&lab.context("context", &[]))
        .tag("app:1")
        .built()
        .assert_all_cached();
}

#[test]
fn history_tells_the_steps() {
    let lab = Lab::new();
    built(&lab);
    let text = lab
        .kiln(["history", "--no-trunc", "app:1"])
        .output()
        .ok()
        .stdout()
        .to_owned();
    for word in [
        "CMD [\"cat\"",
        "LABEL l=v",
        "COPY f /f",
        "echo x > /x",
        "ENV A=1",
    ] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
}

#[test]
fn outputs_of_every_type() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            ("Dockerfile", "FROM scratch\nCOPY d /d\nCMD [\"x\"]\n"),
            ("d/f", "1"),
        ],
    );
    context.link("d/l", "f");
    let build = |spec: &str| lab.build(&context).args(["-o", spec]).output().ok();
    let at = |name: &str| lab.path(name);

    build(&format!("type=local,dest={}", at("local").display()));
    assert_eq!(
        std::fs::read_to_string(at("local").join("d/f")).unwrap(),
        "1"
    );
    assert_eq!(
        std::fs::read_link(at("local").join("d/l"))
            .unwrap()
            .to_str(),
        Some("f")
    );
    build(at("plain").to_str().unwrap());
    assert!(at("plain").join("d/f").exists());

    build(&format!("type=tar,dest={}", at("fs.tar").display()));
    let names = tool("tar", ["-tf", at("fs.tar").to_str().unwrap()]);
    assert!(names.contains("d/f") && names.contains("d/l"), "{names}");
    let stdout = build("type=tar,dest=-").out;
    assert_eq!(stdout, std::fs::read(at("fs.tar")).unwrap());

    build(&format!("type=oci,dest={}", at("oci.tar").display()));
    build(&format!("type=docker,dest={}", at("docker.tar").display()));
    for source in [
        format!("oci-archive:{}", at("oci.tar").display()),
        format!("docker-archive:{}", at("docker.tar").display()),
    ] {
        assert_eq!(
            skopeo_inspect(&source)["config"]["Cmd"],
            json!(["x"]),
            "{source}"
        );
    }
    build("type=image,name=named:7");
    assert_eq!(lab.inspect("named:7")["Config"]["Cmd"], json!(["x"]));
    lab.build(&context)
        .args(["-o", "type=nonsense"])
        .fails()
        .says(&["nonsense"]);
}

#[test]
fn imported_root_file_systems_run() {
    let lab = Lab::new();
    let tar = Tarball::busybox().file("hello", "hi").bytes();
    let file = lab.path("root.tar");
    std::fs::write(&file, &tar).unwrap();
    let id = lab
        .kiln(["import", "-c", "CMD [\"cat\", \"/hello\"]", "-c", "ENV X=1"])
        .arg(&file)
        .arg("mine:1")
        .output()
        .ok()
        .stdout()
        .to_owned();
    assert_eq!(lab.inspect("mine:1")["Id"], id);
    assert_eq!(
        lab.kiln(["run", "--rm", "mine:1"]).output().ok().stdout(),
        "hi"
    );
    lab.kiln(["import", "-", "mine:2"]).stdin(tar).output().ok();
    assert_eq!(lab.run("mine:2", &["cat", "/hello"]), "hi");
    let context = lab.dockerfile("FROM mine:1\nRUN echo $X > /x\n");
    lab.build(&context).tag("child").built();
    assert_eq!(lab.run("child", &["cat", "/x"]), "1");
}

#[test]
fn pulled_by_name_tag_and_digest_through_a_mirror_and_directly() {
    let lab = Lab::new();
    let registry = setting("KILN_TEST_REGISTRY");
    lab.kiln(["pull", "busybox"]).output().ok();
    assert_eq!(lab.run("busybox", &["echo", "1"]), "1");
    let direct = format!("{registry}/library/busybox:latest");
    lab.kiln(["pull", &direct]).output().ok();
    assert_eq!(lab.run(&direct, &["echo", "2"]), "2");
    assert_eq!(lab.inspect("busybox")["Id"], lab.inspect(&direct)["Id"]);
    let raw = tool(
        "skopeo",
        [
            "inspect",
            "--tls-verify=false",
            "--format",
            "{{.Digest}}",
            &format!("docker://{direct}"),
        ],
    );
    let pinned = format!("busybox@{}", raw.trim());
    lab.kiln(["pull", &pinned]).output().ok();
    let context = lab.dockerfile(&format!("FROM {pinned}\nRUN echo 3 > /3\n"));
    lab.build(&context).tag("p").built();
    assert_eq!(lab.run("p", &["cat", "/3"]), "3");
    // By the digest that it was pulled with, an image is found without asking anybody.
    let alone = Lab::new();
    alone.kiln(["pull", &direct]).output().ok();
    let by_digest = alone.inspect(&direct)["RepoDigests"][0].clone();
    let by_digest = by_digest.as_str().unwrap();
    assert_eq!(alone.inspect(by_digest)["Id"], alone.inspect(&direct)["Id"]);
    alone
        .kiln(["rmi", by_digest])
        .fails()
        .says(&["its names are"]);
    lab.kiln(["pull", &format!("{registry}/library/absent")])
        .fails()
        .says(&["absent"]);
    lab.kiln([
        "pull",
        "busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ])
    .fails();
}

#[test]
fn a_copied_config_runs_nothing_for_an_unused_base() {
    // Layers of a base that no step touches are not fetched: only metadata is.
    let lab = Lab::new();
    let context = lab.dockerfile("FROM debian:bookworm\nLABEL a=b\n");
    let built = lab.build(&context).tag("x").built();
    assert!(built.ran().is_empty());
    assert_eq!(lab.inspect("x")["Config"]["Labels"]["a"], "b");
    let unpacked = std::fs::read_dir(lab.store().join("layers-v1"))
        .unwrap()
        .count();
    assert_eq!(unpacked, 0, "the base image was unpacked for a label");
}

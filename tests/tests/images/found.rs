//! Which image a name, an archive or a layout stands for, and what is said where there is none.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::repository::{Repository, annotated, on_platform};
use kiln_tests::{Lab, Output, Tarball, image_in_registry, tool};
use serde_json::{Value, json};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";
const COSIGN: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const HELM: &str = "application/vnd.cncf.helm.config.v1+json";

const HOST: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

fn image(repository: &mut Repository, name: &str, text: &str) -> Value {
    let layer = Tarball::busybox().file("which", text).bytes();
    repository.image(&image_in_registry(name, &[&layer]))
}

/// What a step on an image finds in the file `which`.
fn which(lab: &Lab, build: &[&str], from: &str) -> Output {
    let context = lab.context(
        "context",
        &[(
            "Dockerfile",
            &format!("FROM {from} AS base\nFROM scratch\nCOPY --from=base /which /which\n"),
        )],
    );
    let out = lab.path("out");
    let _ = std::fs::remove_dir_all(&out);
    let output = format!("type=local,dest={}", out.display());
    lab.kiln(["build", "-o", &output])
        .args(build)
        .last(context.path())
        .output()
}

fn found(lab: &Lab, build: &[&str], from: &str) -> String {
    which(lab, build, from).ok();
    std::fs::read_to_string(lab.path("out/which")).unwrap()
}

/// The image lies in the second of two indexes in an index, beside artifacts.
fn nested(repository: &mut Repository) -> Value {
    let right = image(repository, "app", "right");
    let other = image(repository, "app", "other");
    let signature = repository.artifact(CONFIG, COSIGN);
    let first = repository.index(&[on_platform(&other, "linux", "s390x")]);
    let second = repository.index(&[
        on_platform(&signature, "linux", HOST),
        on_platform(&right, "linux", HOST),
    ]);
    repository.index(&[first, second])
}

#[test]
fn an_image_in_an_index_in_an_index_is_found_everywhere() {
    let lab = Lab::new();
    let mut repository = Repository::new();
    let top = nested(&mut repository);
    repository.tag("1", &top);
    let server = repository.serve("app");
    let name = format!("{}/app:1", server.host());
    lab.kiln(["pull", &name]).output().ok();
    assert_eq!(lab.run(&name, &["cat", "/which"]), "right");
    assert_eq!(found(&Lab::new(), &[], &name), "right");

    let layout = lab.path("layout");
    let sbom = repository.artifact("application/spdx+json", "application/spdx+json");
    let signature = repository.artifact(CONFIG, COSIGN);
    repository.write_layout(
        &layout,
        &[
            annotated(&signature, REF_NAME, "v1"),
            annotated(
                &annotated(&top, REF_NAME, "v1"),
                FULL_NAME,
                "example.com/app:1",
            ),
            sbom.clone(),
            json!({"mediaType": "application/x", "digest": sbom["digest"], "size": 1}),
        ],
    );
    let load = Lab::new().kiln(["load", "-i"]).arg(&layout).output().ok();
    assert_eq!(load.stdout(), "Loaded image: example.com/app:1");
    let tar = lab.path("layout.tar");
    tool(
        "tar",
        [
            "-C",
            layout.to_str().unwrap(),
            "-cf",
            tar.to_str().unwrap(),
            ".",
        ],
    );
    let load = Lab::new().kiln(["load", "-i"]).arg(&tar).output().ok();
    assert_eq!(load.stdout(), "Loaded image: example.com/app:1");
    let deep = top["digest"].as_str().unwrap();
    for which in ["", ":v1", &format!("@{deep}")] {
        let context = format!("base=oci-layout://{}{which}", layout.display());
        assert_eq!(
            found(&lab, &["--build-context", &context], "base"),
            "right",
            "{which}"
        );
    }
}

/// Images for several platforms may lie beside each other, without an index of their own.
#[test]
fn the_platform_that_a_layout_names_beside_an_image_counts() {
    let lab = Lab::new();
    let mut repository = Repository::new();
    let right = image(&mut repository, "app", "right");
    let other = image(&mut repository, "app", "other");
    for (case, names) in [
        ("without names", None),
        ("with a tag", Some((REF_NAME, "latest"))),
        ("with a name", Some((FULL_NAME, "example.com/app:latest"))),
    ] {
        let named = |entry: Value| match names {
            Some((key, name)) => annotated(&entry, key, name),
            None => entry,
        };
        let here = named(on_platform(&right, "linux", HOST));
        let there = named(on_platform(&other, "linux", "s390x"));
        for entries in [[here.clone(), there.clone()], [there, here]] {
            let layout = lab.path("layout");
            let _ = std::fs::remove_dir_all(&layout);
            repository.write_layout(&layout, &entries);
            let context = format!("base=oci-layout://{}", layout.display());
            let of_layout = found(&lab, &["--build-context", &context], "base");
            assert_eq!(of_layout, "right", "{case}");
            let other = Lab::new();
            let load = other.kiln(["load", "-i"]).arg(&layout).output().ok();
            assert_eq!(load.stdout().lines().count(), 1, "{case}: {load}");
            let name = load.stdout().rsplit(": ").next().unwrap();
            assert_eq!(other.run(name, &["cat", "/which"]), "right", "{case}");
        }
    }
}

#[test]
fn what_is_no_image_is_called_what_it_is() {
    let mut repository = Repository::new();
    let helm = repository.artifact(HELM, "application/vnd.cncf.helm.chart.content.v1.tar+gzip");
    let signature = repository.artifact(CONFIG, COSIGN);
    let other = image(&mut repository, "app", "other");
    let foreign = repository.index(&[
        on_platform(&other, "linux", "s390x"),
        on_platform(&other, "windows", HOST),
    ]);
    let artifacts = repository.index(&[on_platform(&helm, "linux", HOST)]);
    let mut deep = other;
    for _ in 0..9 {
        deep = repository.index(&[deep]);
    }
    for (tag, of) in [
        ("helm", &helm),
        ("signature", &signature),
        ("foreign", &foreign),
        ("artifacts", &artifacts),
        ("deep", &deep),
    ] {
        repository.tag(tag, of);
    }
    let server = repository.serve("app");
    let lab = Lab::new();
    lab.import(&Tarball::busybox().bytes(), "team/web:1.0");
    let name = |tag: &str| format!("{}/app:{tag}", server.host());
    let chart = format!("is an artifact of type `{HELM}`, not an image");
    let cosign = format!("is an artifact of type `{COSIGN}`, not an image");
    let platforms =
        format!("has no image for linux/{HOST}; it has images for linux/s390x, windows/");
    for (name, words, hint) in [
        (name("helm"), &*chart, "check the tag or digest"),
        (name("signature"), &cosign, "check the tag or digest"),
        (name("artifacts"), &chart, "check the tag or digest"),
        (name("foreign"), &platforms, "--platform chooses"),
        (
            name("deep"),
            "more than 8 indexes inside each other",
            "name the image itself",
        ),
        (name("none"), "status 404", "check the name and the tag"),
        (
            "127.0.0.1:9/app:1".into(),
            "Connection refused",
            "check the host and the network",
        ),
        (
            "team/Web:1.0".into(),
            "is not the name of an image",
            "names are written",
        ),
        ("team/wbe:1.0".into(), "", "did you mean `team/web:1.0`?"),
    ] {
        // Of a registry that cannot be reached, nothing is known.
        let is_known = !name.starts_with("team/w");
        for output in [
            lab.kiln(["pull", &name]).output(),
            which(&lab, &[], &name),
            lab.kiln(["run", "--rm", &name]).output(),
        ] {
            let output = output.failed();
            if is_known {
                output.says(&[words, hint]);
            }
        }
    }
    for command in ["inspect", "history", "save", "rmi"] {
        let output = lab.kiln([command, "team/wbe:1.0"]).output().failed();
        output.says(&["no image `team/wbe:1.0`", "did you mean `team/web:1.0`?"]);
    }
    let layout = lab.path("layout");
    repository.write_layout(&layout, &[helm, signature]);
    let load = lab.kiln(["load", "-i"]).arg(&layout).fails();
    load.says(&[&chart]);
    let context = format!("base=oci-layout://{}", layout.display());
    which(&lab, &["--build-context", &context], "base").failed();
}

#[test]
fn nobody_is_given_a_name_with_a_digest() {
    let lab = Lab::new();
    let digest = format!("sha256:{}", "1".repeat(64));
    let pinned = format!("team/app@{digest}");
    let both = format!("team/app:1@{digest}");
    lab.import(&Tarball::busybox().bytes(), "team/app:1");
    let context = lab.context("context", &[("Dockerfile", "FROM scratch\nLABEL a=b\n")]);
    for name in [&pinned, &both] {
        let tar = lab.path("x.tar");
        for arguments in [
            vec!["tag".to_owned(), "team/app:1".into(), name.clone()],
            vec!["import".into(), "/dev/null".into(), name.clone()],
            vec!["build".into(), "-t".into(), name.clone(), ".".into()],
            vec![
                "build".into(),
                "-o".into(),
                format!("type=image,name={name}"),
                ".".into(),
            ],
            vec![
                "build".into(),
                "-o".into(),
                format!("type=oci,dest={},name={name}", tar.display()),
                ".".into(),
            ],
            vec![
                "build".into(),
                "--push".into(),
                "-t".into(),
                name.clone(),
                ".".into(),
            ],
        ] {
            let output = lab.kiln(&arguments).dir(context.path()).output().failed();
            assert_eq!(output.code(), Some(2), "{output}");
            output.says(&["a new name cannot have a digest"]);
        }
    }
    // In archives it is not taken, and the image is.
    let saved = lab.path("saved.tar");
    lab.kiln(["save", "-o"])
        .arg(&saved)
        .arg("team/app:1")
        .output()
        .ok();
    let dir = lab.path("docker");
    std::fs::create_dir(&dir).unwrap();
    tool(
        "tar",
        ["-C", dir.to_str().unwrap(), "-xf", saved.to_str().unwrap()],
    );
    let manifest = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&manifest).unwrap();
    manifest[0]["RepoTags"] = json!(["team/other:1", pinned, both]);
    std::fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    for file in ["index.json", "oci-layout"] {
        let _ = std::fs::remove_file(dir.join(file));
    }
    tool(
        "tar",
        [
            "-C",
            dir.to_str().unwrap(),
            "-cf",
            saved.to_str().unwrap(),
            ".",
        ],
    );
    let other = Lab::new();
    let load = other.kiln(["load", "-i"]).arg(&saved).output().ok();
    assert_eq!(load.stdout(), "Loaded image: team/other:1");
    load.says(&[&format!("`{pinned}` is not taken")]);

    let mut repository = Repository::new();
    let image = image(&mut repository, "app", "x");
    let layout = lab.path("layout");
    repository.write_layout(&layout, &[annotated(&image, FULL_NAME, &pinned)]);
    let load = other.kiln(["load", "-i"]).arg(&layout).output().ok();
    assert!(load.stdout().starts_with("Loaded image ID: "), "{load}");
    load.says(&[&format!("`{pinned}` is not taken")]);
    assert!(
        which(&other, &["--pull=false"], &pinned)
            .err
            .contains("cannot resolve")
    );
}

#[test]
fn a_digest_is_found_in_the_store_once_it_was_pulled() {
    let lab = Lab::new();
    let mut repository = Repository::new();
    let top = nested(&mut repository);
    let server = repository.serve("app");
    let name = format!("{}/app@{}", server.host(), top["digest"].as_str().unwrap());
    lab.kiln(["pull", &name]).output().ok();
    drop(server);
    // Nobody is there to be asked, and the indexes show what it is.
    assert_eq!(found(&lab, &[], &name), "right");
    lab.kiln(["prune", "-a", "-f"]).output().ok();
    assert_eq!(found(&lab, &[], &name), "right");
    assert_eq!(lab.run(&name, &["cat", "/which"]), "right");
    // It is saved without the name, which whoever loads it would not take.
    let tar = lab.path("saved.tar");
    lab.kiln(["save", "-o"]).arg(&tar).arg(&name).output().ok();
    let load = Lab::new().kiln(["load", "-i"]).arg(&tar).output().ok();
    assert!(load.stdout().starts_with("Loaded image ID: "), "{load}");
}

#[test]
fn a_broken_config_file_of_docker_stops_nothing() {
    let lab = Lab::new();
    let mut repository = Repository::new();
    let image = image(&mut repository, "app", "x");
    repository.tag("1", &image);
    let server = repository.serve("app");
    let name = format!("{}/app:1", server.host());
    let config = lab.path("docker-config");
    std::fs::create_dir(&config).unwrap();
    // One that asks for a login, which makes a difference to what is looked at.
    let guarded = image_in_registry("app", &[]).serve_to("user:password");
    let guarded_name = format!("{}/app:1", guarded.host());
    for (text, warning, is_asked) in [
        (
            "{\"auths\": secret",
            "are not used: Docker's config file is not JSON",
            true,
        ),
        (
            "{\"auths\":{\"HOST\":{\"auth\":\"%%secret%%\"},\"GUARDED\":{\"auth\":\"%%secret%%\"}}}",
            "is not used: its `auth` is not base64",
            false,
        ),
        (
            "{\"auths\":{\"other\":{\"auth\":\"%%secret%%\"}}}",
            "not used",
            false,
        ),
    ] {
        let text = text.replace("HOST", &server.host());
        let text = text.replace("GUARDED", &guarded.host());
        std::fs::write(config.join("config.json"), &text).unwrap();
        let lab = Lab::new();
        let pull = |name: &str| {
            lab.kiln(["pull", name])
                .env("DOCKER_CONFIG", &config)
                .output()
        };
        let open = pull(&name).ok();
        assert!(!open.err.contains("secret"), "{open}");
        assert_eq!(open.err.contains(warning), is_asked, "{open}");
        let closed = pull(&guarded_name).failed();
        assert!(!closed.err.contains("secret"), "{closed}");
        assert_eq!(
            closed.err.contains(warning),
            !text.contains("other"),
            "{closed}"
        );
    }
}

/// Nobody can give an image a name by which another one would be asked for.
#[test]
fn no_name_poses_as_an_id() {
    let lab = Lab::new();
    let id = lab
        .build(&lab.dockerfile("FROM busybox\nRUN echo right > /which\n"))
        .tag("good")
        .built()
        .image;
    let other = lab.dockerfile("FROM busybox\nRUN echo wrong > /which\n");
    lab.build(&other).tag("evil").built();
    let hex = id.strip_prefix("sha256:").unwrap();
    for name in [id.as_str(), hex, "sha256:abc", "sha512"] {
        lab.kiln(["tag", "evil", name]).fails();
        lab.build(&other).tag(name).fails();
        lab.build(&other)
            .args(["-o", &format!("type=image,name={name}")])
            .fails();
    }
    // A name of so many digits is one like others, but for whoever has an image with such an id.
    let short = &hex[..12];
    lab.kiln(["tag", "evil", short]).output().ok();
    for text in [id.as_str(), hex, short] {
        assert_eq!(lab.run(text, &["cat", "/which"]), "right", "{text}");
    }
    let from = lab.dockerfile(&format!("FROM {id}\nRUN cat /which > /copy\n"));
    lab.build(&from).tag("x").built();
    assert_eq!(lab.run("x", &["cat", "/copy"]), "right");
}

/// A store that cannot be opened is said once, and nothing is printed as if it were an answer.
#[test]
fn a_store_that_cannot_be_opened_is_said_once() {
    let lab = Lab::new();
    for command in ["inspect", "rmi"] {
        let out = lab
            .kiln(["--root", "/dev/null/x", command, "a", "b"])
            .output()
            .failed();
        assert_eq!(out.stdout(), "", "{out}");
        assert_eq!(out.err.matches("error:").count(), 1, "{out}");
    }
}

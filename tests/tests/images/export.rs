//! Archives and outputs in their less usual forms, squashed images, scripts for shells.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use kiln_tests::{Lab, Repository, Tarball, registry_of, skopeo_inspect, tool};
use serde_json::{Value, json};

const STEPS: &str = "FROM busybox\n\
    RUN mkdir /d && echo a > /d/a && echo gone > /d/gone && rm /bin/wget\n\
    RUN rm /d/gone && ln /d/a /d/b && chown 7:8 /d/a && rm -rf /var && mkdir /var && echo v > /var/v\n\
    CMD [\"true\"]\n";

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The media types of an OCI layout's layers.
fn layer_types(layout: &Path) -> Vec<String> {
    let blob = |digest: &Value| {
        let hex = digest
            .as_str()
            .unwrap()
            .trim_start_matches("sha256:")
            .to_owned();
        json_of(&layout.join("blobs/sha256").join(hex))
    };
    let index = json_of(&layout.join("index.json"));
    let manifest = blob(&index["manifests"][0]["digest"]);
    let types = manifest["layers"].as_array().unwrap().iter();
    types
        .map(|l| {
            l["mediaType"]
                .as_str()
                .unwrap()
                .rsplit('.')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn a_squashed_image_has_the_same_files_and_its_base() {
    let lab = Lab::new();
    let context = lab.dockerfile(STEPS);
    lab.build(&context).tag("plain").built();
    lab.build(&context).arg("--squash").tag("squashed").built();
    let files = |image: &str| {
        lab.run(image, &["sh", "-c", "find / -xdev | sort | while read f; do stat -c '%n %F %a %u:%g %Y' $f; done | grep -Ev '^/( |(dev|proc|sys)( |/)|etc( |/(hosts|hostname|resolv.conf) ))'; cat /d/a /var/v"])
    };
    assert_eq!(files("squashed"), files("plain"));
    let layers = |image: &str| {
        lab.inspect(image)["RootFS"]["Layers"]
            .as_array()
            .unwrap()
            .clone()
    };
    let (plain, squashed) = (layers("plain"), layers("squashed"));
    assert_eq!((plain.len(), squashed.len()), (3, 2));
    assert_eq!(plain[0], squashed[0]);
    // The same again, from the cache and to other tools.
    let id = lab.inspect("squashed")["Id"].clone();
    lab.build(&context)
        .arg("--squash")
        .tag("again")
        .built()
        .assert_all_cached();
    assert_eq!(lab.inspect("again")["Id"], id);
    let archive = lab.path("s.tar");
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg("squashed")
        .output()
        .ok();
    let other = Lab::new();
    other.kiln(["load", "-i"]).arg(&archive).output().ok();
    assert_eq!(
        other.run(
            "squashed",
            &["sh", "-c", "ls /d /var; test -e /bin/wget || echo none"]
        ),
        "/d:\na\nb\n\n/var:\nv\nnone"
    );
}

#[test]
fn archives_in_every_form_hold_the_same_image() {
    let lab = Lab::new();
    let context = lab.dockerfile(STEPS);
    let id = lab.build(&context).tag("x").built().image;
    for (n, (options, own)) in [
        ("", "tar+gzip"),
        (",compression=zstd,compression-level=1", "tar+zstd"),
        (",compression=uncompressed", "tar"),
        (
            ",compression=gzip,compression-level=1,force-compression=true",
            "tar+gzip",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let layout = lab.path(&format!("layout{n}"));
        let spec = format!(
            "type=oci,tar=false,dest={},name=y:{n}{options}",
            layout.display()
        );
        lab.build(&context).args(["-o", &spec]).output().ok();
        let types = layer_types(&layout);
        assert!(types[1..].iter().all(|t| t == own), "{options}: {types:?}");
        let config = skopeo_inspect(&format!("oci:{}:{n}", layout.display()));
        assert_eq!(config["config"]["Cmd"], json!(["true"]), "{options}");
        let other = Lab::new();
        let out = other.kiln(["load", "-q", "-i"]).arg(&layout).output().ok();
        assert_eq!(out.stdout(), format!("y:{n}"));
        assert_eq!(other.inspect(&format!("y:{n}"))["Id"], id, "{options}");
        assert_eq!(
            other.run(&format!("y:{n}"), &["stat", "-c", "%h %u", "/d/b"]),
            "2 7"
        );
    }
    // Compressed archives, from a file and from a pipe.
    let archive = lab.path("x.tar");
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg("x")
        .output()
        .ok();
    tool("gzip", ["-k", archive.to_str().unwrap()]);
    let packed = lab.path("x.tar.gz");
    for through_pipe in [false, true] {
        let other = Lab::new();
        let load = if through_pipe {
            other.kiln(["load"]).stdin(std::fs::read(&packed).unwrap())
        } else {
            other.kiln(["load", "-i"]).arg(&packed)
        };
        assert_eq!(load.output().ok().stdout(), "Loaded image: x:latest");
        assert_eq!(other.inspect("x")["Id"], id);
    }
    // By id there is no name to keep.
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg(&id[7..20])
        .output()
        .ok();
    let other = Lab::new();
    let out = other.kiln(["load", "-i"]).arg(&archive).output().ok();
    assert_eq!(out.stdout(), format!("Loaded image ID: {id}"));
}

#[test]
fn broken_archives_leave_nothing() {
    let lab = Lab::new();
    let context = lab.dockerfile(STEPS);
    lab.build(&context).tag("x").built();
    let archive = lab.path("x.tar");
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg("x")
        .output()
        .ok();
    let good = std::fs::read(&archive).unwrap();
    let mut flipped = good.clone();
    let middle = good.len() / 2;
    flipped[middle] ^= 0x55;
    for (name, bytes) in [
        ("cut", good[..middle].to_vec()),
        ("flipped", flipped),
        ("empty", Vec::new()),
        ("text", b"FROM scratch\n".to_vec()),
    ] {
        let other = Lab::new();
        let path = other.path("bad.tar");
        std::fs::write(&path, bytes).unwrap();
        let out = other.kiln(["load", "-i"]).arg(&path).fails();
        assert_eq!(out.code(), Some(1), "{name}");
        assert_eq!(
            other.kiln(["images", "-q"]).output().ok().stdout(),
            "",
            "{name}"
        );
        other.assert_clean();
    }
    lab.kiln(["load", "-i", "/nowhere"])
        .fails()
        .says(&["/nowhere"]);
}

#[test]
fn files_are_written_below_the_destination_only() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS b\nRUN mkdir -p /o/etc /o/d && echo 1 > /o/etc/f && echo 2 > /o/d/f && ln -s / /o/root \
         && chown 5:6 /o/d/f && chmod 4711 /o/d/f && ln /o/d/f /o/d/g\nFROM scratch\nCOPY --from=b /o /\n",
    );
    let (dest, outside) = (lab.path("dest"), lab.path("outside"));
    std::fs::create_dir_all(&dest).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    symlink(&outside, dest.join("etc")).unwrap();
    symlink(outside.join("f"), dest.join("root")).unwrap();
    for _ in 0..2 {
        lab.build(&context)
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .args(["-o", dest.to_str().unwrap()])
            .output()
            .ok();
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(dest.join("etc/f")).unwrap(), "1\n");
    let meta = |name: &str| std::fs::symlink_metadata(dest.join(name)).unwrap();
    let file = meta("d/f");
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (5, 6, 0o4711)
    );
    assert_eq!(file.mtime(), 1_000_000_000);
    assert_eq!(file.ino(), meta("d/g").ino());
    lab.build(&context)
        .args(["-o", &format!("type=oci,dest={}", outside.display())])
        .fails()
        .says(&["is a directory"]);
}

#[test]
fn imports_take_any_compression_and_changes() {
    let lab = Lab::new();
    let tar = lab.path("r.tar");
    std::fs::write(&tar, Tarball::busybox().file("f", "hi").bytes()).unwrap();
    let mut ids = Vec::new();
    for (program, end) in [
        ("true", ""),
        ("gzip", ".gz"),
        ("xz", ".xz"),
        ("bzip2", ".bz2"),
        ("zstd", ".zst"),
    ] {
        if program != "true" {
            let quiet = if program == "zstd" { "-qk" } else { "-k" };
            tool(program, [quiet, tar.to_str().unwrap()]);
        }
        let out = lab
            .kiln([
                "import",
                "-m",
                "made",
                "-c",
                "WORKDIR /w",
                "-c",
                "EXPOSE 80",
                "-c",
                "LABEL a=b c=d",
            ])
            .args([
                "-c",
                "ENTRYPOINT [\"cat\"]",
                "-c",
                "USER 5",
                "-c",
                "VOLUME /v",
            ])
            .args([
                "-c",
                "ONBUILD RUN true",
                &format!("{}{end}", tar.display()),
                &format!("i{end}"),
            ])
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .output()
            .ok();
        ids.push(out.stdout().to_owned());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let seen = lab.inspect("i");
    let config = &seen["Config"];
    assert_eq!(config["WorkingDir"], "/w");
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(config["Labels"], json!({"a": "b", "c": "d"}));
    assert_eq!(
        (&config["User"], &config["OnBuild"]),
        (&json!("5"), &json!(["RUN true"]))
    );
    assert_eq!(config["Volumes"], json!({"/v": {}}));
    assert_eq!(seen["Comment"], "made");
    for change in ["RUN true", "FROM x", "CMD a\nCMD b", "FROB x", "", "ENV"] {
        lab.kiln(["import", "-c", change]).arg(&tar).fails();
    }
    lab.kiln(["import", "/nowhere.tar"])
        .fails()
        .says(&["/nowhere.tar"]);
}

#[test]
fn git_logins_are_written_nowhere() {
    let lab = Lab::new();
    let repository = Repository::new(&lab.path("repo"));
    repository.write("f", "1").commit();
    let server = repository.serve();
    let url = server
        .url("/repo.git")
        .replace("http://", "http://user:canary-word@");
    let context = lab.dockerfile(&format!("FROM busybox\nADD {url} /r\n"));
    let out = lab.build(&context).tag("g").output().ok();
    assert!(!out.to_string().contains("canary-word"), "{out}");
    let kept = lab.dockerfile(&format!("FROM busybox\nADD --keep-git-dir {url} /r\n"));
    lab.build(&kept).tag("k").output().ok();
    assert_eq!(
        lab.run(
            "k",
            &[
                "sh",
                "-c",
                "grep -c url /r/.git/config; grep -r canary /r/.git || true"
            ]
        ),
        "1"
    );
    let broken = lab.dockerfile(&format!("FROM busybox\nADD {url}#nowhere /r\n"));
    let out = lab.build(&broken).fails();
    // The Dockerfile's own lines are shown as they are; everything else is not.
    let told: Vec<&str> = out
        .err
        .lines()
        .filter(|l| l.contains("canary-word") && !l.contains("ADD "))
        .collect();
    assert!(told.is_empty(), "{told:?}");
    for image in ["g", "k"] {
        let archive = lab.path(&format!("{image}.tar"));
        lab.kiln(["save", "-o"])
            .arg(&archive)
            .arg(image)
            .output()
            .ok();
        assert!(!kiln_tests::holds(&archive, b"canary-word"));
    }
}

#[test]
fn shells_and_man_get_what_they_need() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = lab
            .kiln(["completions", shell])
            .output()
            .ok()
            .stdout()
            .to_owned();
        assert!(script.contains("KILN_COMPLETE"), "{shell}: {script}");
    }
    let script = lab.path("c.bash");
    std::fs::write(&script, lab.kiln(["completions", "bash"]).output().ok().out).unwrap();
    tool("bash", ["-n", script.to_str().unwrap()]);
    let pages = lab.path("man");
    lab.kiln(["man"]).arg(&pages).output().ok();
    let page = std::fs::read_to_string(pages.join("kiln-build.1")).unwrap();
    assert!(
        page.contains(".TH") && page.contains("squash") && page.contains("Examples"),
        "{page}"
    );
    assert!(pages.join("kiln.1").exists() && !pages.join("kiln-internal-maintenance.1").exists());
}

#[test]
fn layers_that_no_step_needed_come_when_they_are() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nLABEL a=b\nONBUILD RUN echo child > /child\n");
    lab.build(&context).tag("label").built();
    assert_eq!(lab.run("label", &["echo", "1"]), "1");
    // Without the unpacked layer, and with a blob that is damaged.
    let store = lab.store();
    std::fs::remove_dir_all(store.join("layers-v1")).unwrap();
    std::fs::create_dir(store.join("layers-v1")).unwrap();
    let blobs = || {
        std::fs::read_dir(store.join("content-v1/sha256"))
            .unwrap()
            .map(|e| e.unwrap().path())
    };
    let largest = blobs().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let good = std::fs::read(&largest).unwrap();
    let mut bytes = good.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&largest, bytes).unwrap();
    assert_eq!(lab.run("label", &["echo", "2"]), "2");
    assert!(
        std::fs::read(&largest).unwrap() == good,
        "the blob was not fetched again"
    );
    lab.build(&lab.dockerfile("FROM label\n"))
        .tag("child")
        .built();
    assert_eq!(lab.run("child", &["cat", "/child"]), "child");
}

/// As buildx has it: an archive goes to standard output where no file is named, and to the store
/// where that is what `type=docker` means.
#[test]
fn archives_go_to_pipes_and_not_to_terminals() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN echo x > /x\n");
    let build = |output: &str| {
        let build = lab.kiln(["build", "-t", "x", "-o", output]);
        build.last(context.path())
    };
    for (output, member) in [
        ("type=oci", "index.json"),
        ("type=oci,dest=-", "index.json"),
        ("type=docker,dest=-", "manifest.json"),
        ("type=tar", "x"),
    ] {
        let out = build(output).output().ok();
        assert!(!out.err.contains("dest=-"), "{out}");
        let file = lab.path("archive.tar");
        std::fs::write(&file, &out.out).unwrap();
        let listed = tool("tar", ["tf", file.to_str().unwrap()]);
        assert!(listed.lines().any(|l| l == member), "{output}: {listed}");
        lab.kiln(["inspect", "x"]).fails();
        let shown = build(output).on_a_terminal().output().failed();
        let shown = String::from_utf8_lossy(&shown.out);
        assert!(
            shown.contains("an archive is not written to a terminal"),
            "{shown}"
        );
        assert!(shown.contains("dest=FILE"), "{shown}");
    }
    let out = build("type=docker").output().ok();
    assert!(out.out.is_empty(), "{out}");
    out.says(&["puts the image into the store", "type=docker,dest=-"]);
    lab.kiln(["inspect", "x"]).output().ok();
    let shown = build("type=docker").on_a_terminal().output().ok();
    assert!(!String::from_utf8_lossy(&shown.out).contains("dest=-"));
}

/// A tar that another tool made cannot be made again from its files.
#[test]
fn the_blob_of_a_base_image_is_fetched_again_where_an_archive_needs_it() {
    let tar = Tarball::busybox().file("z", "z").file("./a", "a").bytes();
    let registry = registry_of("base", &[&tar]);
    let lab = Lab::new();
    let name = format!("{}/base", registry.host());
    lab.kiln(["pull", &name]).output().ok();
    lab.kiln(["rmi", &name]).output().ok();
    let prune = lab.kiln(["prune", "-f", "--filter", "type=content"]);
    prune.output().ok();
    let context = lab.dockerfile(&format!("FROM {name}\nRUN cat /a > /b\n"));
    let out = lab.path("out.tar");
    let output = format!("type=oci,dest={}", out.display());
    lab.build(&context).args(["-o", &output]).built();
    let other = Lab::new();
    let load = other.kiln(["load", "-i"]).arg(&out).output().ok();
    let id = load.stdout().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(other.run(&id, &["cat", "/a", "/b", "/z"]), "aaz");
}

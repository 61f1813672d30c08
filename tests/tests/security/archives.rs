//! Hostile archives, wherever one comes in: ADD, contexts, `import`, `load`, layers of a registry.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Canary, Lab, Tarball, holds, registry_of, tool};
use tar::EntryType;

/// Archives that try to write outside of where they are unpacked, by name.
fn hostile(canary: &Canary) -> Vec<(&'static str, Vec<u8>)> {
    let target = canary.path();
    // Enough to reach the host's root from wherever this is unpacked.
    let up = "../".repeat(20) + target.trim_start_matches('/');
    let new = Tarball::new;
    vec![
        (
            "a link, then a file below it",
            new()
                .link("l", &target)
                .file("l/writable", "over")
                .file("l/new", "x")
                .bytes(),
        ),
        (
            "a relative link, then a file below it",
            new().link("l", &up).file("l/writable", "over").bytes(),
        ),
        (
            "a chain of links",
            new()
                .link("a", &target)
                .link("b", "a")
                .file("b/new", "x")
                .bytes(),
        ),
        (
            "a link in a directory",
            new()
                .dir("d", 0o755)
                .link("d/l", &up)
                .file("d/l/new", "x")
                .bytes(),
        ),
        (
            "dots",
            new()
                .file(&format!("{up}/new"), "x")
                .file("a/../../../../../x", "x")
                .bytes(),
        ),
        (
            "an absolute name",
            new().file(&format!("{target}/new"), "x").bytes(),
        ),
        (
            "a hard link to the outside",
            new()
                .hard_link("h", &format!("{target}/writable"))
                .file("h", "over")
                .bytes(),
        ),
        (
            "a hard link with dots",
            new()
                .hard_link("h", &format!("{up}/writable"))
                .file("h", "over")
                .bytes(),
        ),
        (
            "a hard link through a link",
            new()
                .link("l", &target)
                .hard_link("h", "l/writable")
                .file("h", "over")
                .bytes(),
        ),
        (
            "a hard link to a link",
            new()
                .link("l", &format!("{target}/writable"))
                .hard_link("h", "l")
                .file("h", "over")
                .bytes(),
        ),
        (
            "a directory over a link",
            new()
                .link("a", &format!("{target}/private"))
                .dir("a", 0o777)
                .file("a/new", "x")
                .bytes(),
        ),
        (
            "a mode over a link",
            new()
                .link("a", &format!("{target}/writable"))
                .raw("a", EntryType::Directory, 0o7777, "", b"")
                .bytes(),
        ),
        (
            "a PAX name",
            new()
                .pax("path", &format!("{target}/new"))
                .file("ok", "x")
                .bytes(),
        ),
        (
            "a PAX link",
            new()
                .pax("linkpath", &target)
                .link("l", "x")
                .file("l/new", "x")
                .bytes(),
        ),
        (
            "a PAX name with dots",
            new()
                .pax("path", &format!("{up}/new"))
                .file("ok", "x")
                .bytes(),
        ),
        (
            "a file, then a directory of its name",
            new()
                .file("x", "1")
                .dir("x", 0o755)
                .file("x/y", "2")
                .bytes(),
        ),
        (
            "twice the same",
            new()
                .file("x", "1")
                .file("x", "2")
                .link("x", &target)
                .file("x/new", "3")
                .bytes(),
        ),
        (
            "a FIFO",
            new()
                .raw("fifo", EntryType::Fifo, 0o644, "", b"")
                .file("fifo", "x")
                .bytes(),
        ),
        (
            "a device",
            new().raw("null", EntryType::Char, 0o666, "", b"").bytes(),
        ),
        (
            "a whiteout of the outside",
            new()
                .link("l", &target)
                .file("l/.wh.secret", "")
                .file("l/.wh..wh..opq", "")
                .bytes(),
        ),
        (
            "a whiteout with dots",
            new()
                .file("..wh.", "")
                .file(".wh...", "")
                .file(".wh..", "")
                .file(".wh.", "")
                .bytes(),
        ),
        (
            "the root as a link",
            new()
                .raw("./", EntryType::Symlink, 0o777, &target, b"")
                .file("new", "x")
                .bytes(),
        ),
        (
            "the root as a file",
            new()
                .raw(".", EntryType::Regular, 0o777, "", b"x")
                .file("new", "x")
                .bytes(),
        ),
        (
            "a size beyond the end",
            truncated(new().file("big", &"x".repeat(5000)).bytes()),
        ),
        ("no archive at all", vec![0xff; 4096]),
    ]
}

fn truncated(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(2048);
    bytes
}

/// Nothing of the host changed, nothing of it was read, and the store is still good.
#[track_caller]
fn check(lab: &Lab, canary: &Canary, what: &str, out: &kiln_tests::Output) {
    assert!(!out.err.contains("panicked"), "{what}: {out}");
    canary.assert_untouched();
    assert!(
        !holds(&lab.store(), canary.secret().as_bytes()),
        "{what}: the canary is in the store"
    );
    assert!(!std::path::Path::new("/x").exists(), "{what}: wrote /x");
}

#[test]
fn cve_2020_10696_add_of_a_hostile_archive() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    for (what, bytes) in hostile(&canary) {
        let context = lab.context(
            "context",
            &[(
                "Dockerfile",
                "FROM busybox\nADD evil.tar /out/\nRUN cat /out/l/secret /out/h; true\n",
            )],
        );
        context.write("evil.tar", bytes);
        let out = lab.build(&context).output().orderly();
        check(&lab, &canary, what, &out);
    }
}

#[test]
fn kaniko_cve_2026_28406_a_hostile_context() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    for (what, bytes) in hostile(&canary) {
        let dockerfile = Tarball::new().file(
            "Dockerfile",
            "FROM busybox\nCOPY . /out\nRUN cat /out/l/secret /out/h; true\n",
        );
        // The hostile entries come first; the end of the first archive is two empty blocks.
        let mut all = bytes;
        all.truncate(all.len().saturating_sub(1024));
        all.extend(dockerfile.bytes());
        let out = lab.kiln(["build", "-"]).stdin(all).output().orderly();
        check(&lab, &canary, what, &out);
    }
}

#[test]
fn cve_2026_50163_and_cve_2021_32760_hostile_images_are_imported_and_pulled() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    for (what, bytes) in hostile(&canary) {
        let file = lab.path("evil.tar");
        std::fs::write(&file, &bytes).unwrap();
        let out = lab
            .kiln(["import"])
            .arg(&file)
            .arg("evil:1")
            .output()
            .orderly();
        check(&lab, &canary, what, &out);

        let server = registry_of("evil", &[&bytes]);
        let name = format!("{}/evil:latest", server.host());
        let out = lab.kiln(["pull", &name]).output().orderly();
        check(&lab, &canary, what, &out);
        let context = lab.dockerfile(&format!(
            "FROM {name}\nCOPY Dockerfile /l/writable\nCOPY Dockerfile /h\n"
        ));
        let out = lab.build(&context).output().orderly();
        check(&lab, &canary, what, &out);
    }
}

#[test]
fn a_link_of_one_layer_and_a_file_of_the_next() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let one = Tarball::busybox()
        .link("l", &canary.path())
        .link("w", &format!("{}/writable", canary.path()))
        .bytes();
    let two = Tarball::new()
        .file("l/new", "x")
        .file("l/writable", "over")
        .hard_link("h", "w")
        .file("h", "over")
        .file("l/.wh.secret", "")
        .bytes();
    let server = registry_of("evil", &[&one, &two]);
    let name = format!("{}/evil:latest", server.host());
    let out = lab
        .kiln(["run", "--rm", &name, "cat", "/l/secret", "/w"])
        .output()
        .orderly();
    check(&lab, &canary, "run", &out);
    assert!(!out.stdout().contains(canary.secret()), "{out}");
    let context = lab.dockerfile(&format!(
        "FROM {name}\nRUN cat /l/secret /w; echo over > /w; true\n"
    ));
    let out = lab.build(&context).output().orderly();
    check(&lab, &canary, "build", &out);
}

#[test]
fn cve_2024_3727_digests_that_are_none() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let good = lab.dockerfile("FROM scratch\nCOPY Dockerfile /f\n");
    lab.build(&good).tag("x").built();
    let archive = lab.path("good.tar");
    lab.kiln(["save", "--format", "oci", "-o"])
        .arg(&archive)
        .arg("x")
        .output()
        .ok();
    let up = format!(
        "{}{}/secret",
        "../".repeat(20),
        canary.path().trim_start_matches('/')
    );
    for digest in [
        format!("sha256:{up}"),
        "sha256:../../meta-v1.db".into(),
        "sha256:abc".into(),
        "sha256:".into(),
        String::new(),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha256:{}", "a".repeat(65)),
        format!("md5:{}", "a".repeat(32)),
        format!("sha256:{}\n", "a".repeat(63)),
        "sha256:/etc/passwd".into(),
        up.clone(),
    ] {
        for place in ["index", "config", "layer"] {
            let dir = lab.path("layout");
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir(&dir).unwrap();
            tool(
                "tar",
                [
                    "-xf",
                    archive.to_str().unwrap(),
                    "-C",
                    dir.to_str().unwrap(),
                ],
            );
            replace_digest(&dir, place, &digest);
            let evil = lab.path("evil.tar");
            tool(
                "tar",
                [
                    "-cf",
                    evil.to_str().unwrap(),
                    "-C",
                    dir.to_str().unwrap(),
                    ".",
                ],
            );
            let out = lab.kiln(["load", "-i"]).arg(&evil).output().failed();
            check(&lab, &canary, &format!("{place}: {digest}"), &out);
            let context = lab.dockerfile("FROM evil\nRUN true\n");
            let spec = format!("evil=oci-layout://{}:latest", dir.display());
            let out = lab
                .build(&context)
                .args(["--build-context", &spec])
                .output()
                .orderly();
            check(&lab, &canary, &format!("{place}: {digest}"), &out);
        }
    }
}

/// Puts `digest` where the digest of the manifest, the config or the first layer stands, and keeps
/// everything above it right.
fn replace_digest(layout: &std::path::Path, place: &str, digest: &str) {
    let read = |path: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let index_path = layout.join("index.json");
    let mut index = read(&index_path);
    if place == "index" {
        index["manifests"][0]["digest"] = digest.into();
    } else {
        let old = index["manifests"][0]["digest"]
            .as_str()
            .unwrap()
            .replace(':', "/");
        let mut manifest = read(&layout.join("blobs").join(old));
        let field = if place == "config" {
            &mut manifest["config"]
        } else {
            &mut manifest["layers"][0]
        };
        field["digest"] = digest.into();
        let text = manifest.to_string();
        let path = layout.join("text");
        std::fs::write(&path, &text).unwrap();
        let sum = tool("sha256sum", [path.to_str().unwrap()]);
        let sum = sum.split(' ').next().unwrap();
        std::fs::rename(&path, layout.join("blobs/sha256").join(sum)).unwrap();
        index["manifests"][0]["digest"] = format!("sha256:{sum}").into();
        index["manifests"][0]["size"] = text.len().into();
    }
    std::fs::write(index_path, index.to_string()).unwrap();
}

#[test]
fn cve_2024_23650_malformed_archives_are_errors() {
    let lab = Lab::new();
    for (name, text) in [
        (
            "manifest.json",
            "[{\"Config\":\"../../../../etc/passwd\",\"RepoTags\":[\"a:1\"],\"Layers\":[\"/etc/passwd\"]}]",
        ),
        (
            "manifest.json",
            "[{\"Config\":\"c.json\",\"RepoTags\":null,\"Layers\":[]}]",
        ),
        ("manifest.json", "[]"),
        ("manifest.json", "{}"),
        ("manifest.json", "[[[[[[[["),
        ("manifest.json", ""),
        ("index.json", "{\"schemaVersion\":2,\"manifests\":[]}"),
        (
            "index.json",
            "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\",\"size\":-1,\"digest\":\"\"}]}",
        ),
        ("index.json", "null"),
        ("repositories", "{}"),
    ] {
        let tar = Tarball::new()
            .file("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}")
            .file("c.json", "{}")
            .file(name, text);
        lab.kiln(["load"]).stdin(tar.bytes()).fails();
    }
    for bytes in [
        Vec::new(),
        vec![0u8; 512],
        vec![0x1f, 0x8b, 8, 0],
        b"BZh9".to_vec(),
        vec![0x28, 0xb5, 0x2f, 0xfd],
        b"\xfd7zXZ\0".to_vec(),
    ] {
        lab.kiln(["load"]).stdin(bytes.clone()).fails();
        lab.kiln(["import", "-", "x:1"])
            .stdin(bytes.clone())
            .output()
            .orderly();
        lab.kiln(["build", "-"]).stdin(bytes).fails();
    }
}

#[test]
fn ghsa_49p4_a_dockerfile_that_is_a_link() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let secret = format!("{}/secret", canary.path());
    for target in [
        secret.clone(),
        format!("{}{}", "../".repeat(20), secret.trim_start_matches('/')),
        "/proc/self/environ".into(),
        "/dev/zero".into(),
    ] {
        let tar = Tarball::new()
            .link("Dockerfile", &target)
            .link(".dockerignore", &target)
            .bytes();
        let out = lab.kiln(["build", "-"]).stdin(tar).fails();
        assert!(!out.err.contains(canary.secret()), "{out}");
        // A directory may have it as a link inside, not to the outside.
        let context = lab.context("context", &[]);
        let _ = std::fs::remove_file(context.at("Dockerfile"));
        context.link("Dockerfile", &target);
        let out = lab.kiln(["build"]).arg(context.path()).output().orderly();
        assert!(!out.err.contains(canary.secret()), "{out}");
        canary.assert_untouched();
    }
    // A broken archive with a Dockerfile after it is not read as one.
    let mut broken = Tarball::new().file("x", "y").bytes();
    broken.truncate(700);
    broken.extend(b"FROM busybox\nRUN echo fell back\n");
    let out = lab.kiln(["build", "-"]).stdin(broken).fails();
    assert!(!out.err.contains("fell back"), "{out}");
}

#[test]
fn links_of_a_context_end_at_its_root() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let context = lab.context("context", &[("f", "x")]);
    context.link("out", &canary.path()).link(
        "up",
        &format!(
            "{}{}",
            "../".repeat(20),
            canary.path().trim_start_matches('/')
        ),
    );
    context
        .link("proc", "/proc/self/root")
        .link("d/deep", "../out/secret");
    for source in [
        "out/secret",
        "up/secret",
        "d/deep",
        "../canary/secret",
        "out/*",
        "proc/etc/hostname",
        "out/../secret",
    ] {
        for line in [
            format!("COPY {source} /x/"),
            format!("ADD {source} /x/"),
            format!("COPY --parents {source} /x/"),
        ] {
            context.dockerfile(&format!(
                "FROM busybox\n{line}\nRUN cat /x/* 2>/dev/null; true\n"
            ));
            let out = lab.build(&context).output().orderly();
            check(&lab, &canary, &line, &out);
            assert!(!out.err.contains(canary.secret()), "{line}: {out}");
        }
    }
}

#[test]
fn cve_2026_42306_no_program_of_the_image_or_the_path_decompresses() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let context = lab.context("context", &[("inner", "unpacked")]);
    let dir = context.path().to_str().unwrap().to_owned();
    for (flag, name, program) in [
        ("-z", "a.tar.gz", "gzip"),
        ("-J", "a.tar.xz", "xz"),
        ("-j", "a.tar.bz2", "bzip2"),
        ("--zstd", "a.tar.zst", "zstd"),
    ] {
        let archive = context.at(name);
        tool(
            "tar",
            [flag, "-cf", archive.to_str().unwrap(), "-C", &dir, "inner"],
        );
        for place in ["context", "bin"] {
            let directory = lab.path(place);
            std::fs::create_dir_all(&directory).unwrap();
            let trap = directory.join(program);
            std::fs::write(
                &trap,
                format!("#!/bin/sh\necho over > {}/writable\n", canary.path()),
            )
            .unwrap();
            std::fs::set_permissions(&trap, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
        }
        context.dockerfile(&format!(
            "FROM busybox\nCOPY {program} /usr/local/bin/\nADD {name} /out/\nRUN cat /out/inner\n"
        ));
        let built = lab
            .build(&context)
            .env("PATH", lab.path("bin"))
            .dir(context.path())
            .built();
        assert!(built.log().contains("unpacked"), "{name}: {}", built.log());
        canary.assert_untouched();
    }
}

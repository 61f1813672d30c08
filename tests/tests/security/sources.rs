//! Registries, repositories, addresses, and what the cache may believe.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::symlink;

use kiln_tests::{
    Answer, Canary, Lab, Repository, Server, Tarball, holds, image_in_registry, registry_of, tool,
};
use serde_json::json;

#[test]
fn cve_2026_33747_no_frontend_is_ever_run() {
    let lab = Lab::new();
    let server = registry_of("frontend", &[&Tarball::busybox().bytes()]);
    let context = lab.dockerfile(&format!(
        "# syntax={}/frontend:latest\nFROM busybox\nRUN echo built > /x\n",
        server.host()
    ));
    lab.build(&context).tag("x").built();
    assert_eq!(lab.run("x", &["cat", "/x"]), "built");
    assert_eq!(server.seen(), Vec::<String>::new());
}

#[test]
fn cve_2026_33748_subdirectories_of_a_repository() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let repository = Repository::new(&lab.path("repository"));
    repository
        .write("Dockerfile", "FROM busybox\nCOPY . /c\n")
        .write("sub/Dockerfile", "FROM busybox\nCOPY . /c\n");
    for (name, target) in [
        ("root", "/".to_owned()),
        ("out", canary.path()),
        ("up", "../../../../..".to_owned()),
        ("git", ".git".to_owned()),
    ] {
        symlink(target, repository.path().join(name)).unwrap();
    }
    symlink(canary.path(), repository.path().join("sub/deep")).unwrap();
    repository.commit();
    let server = repository.serve();
    for sub in [
        "../..",
        "../../../../../../etc",
        "root",
        "out",
        "up",
        "git",
        ".git",
        "sub/../..",
        "sub/deep",
        "/etc",
        "sub/deep/private",
        "%2e%2e/%2e%2e",
    ] {
        let url = server.url(&format!("/repo.git#main:{sub}"));
        let context = lab.dockerfile(&format!(
            "FROM busybox\nADD {url} /c\nRUN cat /c/secret /c/passwd 2>/dev/null; true\n"
        ));
        for out in [
            lab.build(&context).output().orderly(),
            lab.kiln(["build", &url]).output().orderly(),
        ] {
            assert!(
                !out.err.contains(canary.secret()) && !out.err.contains("root:x:"),
                "{sub}: {out}"
            );
        }
        assert!(!holds(&lab.store(), canary.secret().as_bytes()), "{sub}");
        canary.assert_untouched();
    }
}

#[test]
fn ghsa_hw3h_references_and_addresses_are_no_options() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let repository = Repository::new(&lab.path("repository"));
    repository.write("Dockerfile", "FROM busybox\n").commit();
    let server = repository.serve();
    let over = format!("sh -c 'echo over > {}/writable'", canary.path());
    let url = server.url("/repo.git");
    for address in [
        format!("{url}#--upload-pack={over}"),
        format!("{url}#-c"),
        format!("{url}#main\n--upload-pack=x"),
        format!("{url}#--output={}/writable", canary.path()),
        format!("ext::{over}.git"),
        format!("git::ext::{over}"),
        "git@-oProxyCommand=x:y.git".to_owned(),
        format!("ssh://-oProxyCommand={over}/x.git"),
        "git://-x/y.git".to_owned(),
        "file:///etc.git".to_owned(),
        format!("file://{}", repository.path().display()),
    ] {
        let out = lab.kiln(["build", &address]).output().failed();
        drop(out);
        canary.assert_untouched();
        if !address.contains('\n') {
            let context = lab.dockerfile(&format!(
                "FROM busybox\nADD [\"{}\", \"/c/\"]\n",
                address.replace('\'', "")
            ));
            lab.build(&context).output().orderly();
            canary.assert_untouched();
        }
    }
}

#[test]
fn ghsa_hw3h_configuration_and_hooks_of_others_do_not_run() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let over = format!("echo over > {}/writable", canary.path());
    let repository = Repository::new(&lab.path("repository"));
    repository
        .write("Dockerfile", "FROM busybox\nCOPY . /c\n")
        .write(".gitattributes", "* filter=evil diff=evil\n");
    repository
        .write(
            ".gitmodules",
            "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh\n\tupdate = !sh\n",
        )
        .commit();
    // The user's configuration has a filter and hooks; a checkout for a build uses neither.
    let hooks = lab.context(
        "hooks",
        &[("post-checkout", &format!("#!/bin/sh\n{over}\n"))],
    );
    hooks.mode("post-checkout", 0o755);
    std::fs::write(
        lab.path("home").join(".gitconfig"),
        format!(
            "[core]\n\thooksPath = {}\n[filter \"evil\"]\n\tsmudge = \"{over}; cat\"\n",
            hooks.path().display()
        ),
    )
    .unwrap();
    let server = repository.serve();
    lab.kiln(["build", "-t", "x", &server.url("/repo.git")])
        .output()
        .ok();
    canary.assert_untouched();
    let context = lab.dockerfile(&format!(
        "FROM busybox\nADD {} /c\n",
        server.url("/repo.git")
    ));
    lab.build(&context).built();
    canary.assert_untouched();
}

#[test]
fn ghsa_vp35_repositories_that_point_at_the_host() {
    let lab = Lab::new();
    let canary = Canary::new(&lab);
    let repository = Repository::new(&lab.path("repository"));
    repository.write(
        "Dockerfile",
        "FROM busybox\nCOPY . /c\nRUN cat /c/l /c/d/secret; true\n",
    );
    symlink(
        format!("{}/secret", canary.path()),
        repository.path().join("l"),
    )
    .unwrap();
    symlink(canary.path(), repository.path().join("d")).unwrap();
    repository.commit();
    let server = repository.serve();
    let out = lab
        .kiln([
            "build",
            "--progress=plain",
            "-t",
            "x",
            &server.url("/repo.git"),
        ])
        .output()
        .orderly();
    assert!(!out.err.contains(canary.secret()), "{out}");
    // A directory that is a repository with borrowed objects: git is not asked at all.
    std::fs::write(
        repository.path().join(".git/objects/info/alternates"),
        "/etc\n",
    )
    .unwrap();
    lab.kiln(["build", "--progress=plain"])
        .arg(repository.path())
        .output()
        .orderly();
    assert!(!holds(&lab.store(), canary.secret().as_bytes()));
    canary.assert_untouched();
}

#[test]
fn cve_2023_26054_credentials_in_addresses_are_nowhere() {
    let lab = Lab::new();
    let repository = Repository::new(&lab.path("repository"));
    repository
        .write("Dockerfile", "FROM busybox\nCOPY . /c\n")
        .commit();
    let server = repository.serve();
    let files = Server::files(vec![("/f", Answer::ok("x"))]);
    let secret = "hunter2-in-the-address";
    let with = |url: String| url.replace("http://", &format!("http://user:{secret}@"));
    let git = with(server.url("/repo.git"));
    let mut shown = String::new();
    let context = lab.dockerfile(&format!(
        "FROM busybox\nADD --keep-git-dir=true {git} /kept\nADD {0} /f\n\
         ADD {0}?version=3&X-Amz-Signature={secret} /g\nADD [\"{0}?{secret}-{secret}\", \"/h\"]\n",
        with(files.url("/f"))
    ));
    // The Dockerfile itself has it; everything that kiln writes must not.
    let build = lab
        .kiln(["build", "-t", "x", "--metadata-file"])
        .arg(lab.path("metadata"))
        .arg(context.path())
        .output()
        .ok();
    shown.push_str(&build.err);
    assert!(
        build.err.contains("?version=3&X-Amz-Signature=…"),
        "{build}"
    );
    let build = lab.kiln(["build", "-t", "y", &git]).output().ok();
    shown.push_str(&build.err);
    let missing = format!(
        "FROM busybox\nADD {}?sig={secret} /f\n",
        files.url("/absent")
    );
    let build = lab.build(&lab.context("missing", &[("Dockerfile", &missing)]));
    shown.push_str(&build.fails().err);
    shown.push_str(
        lab.kiln(["build", &with(server.url("/absent.git"))])
            .fails()
            .err
            .as_str(),
    );
    shown.push_str(
        lab.kiln(["history", "--no-trunc", "x"])
            .output()
            .ok()
            .stdout(),
    );
    shown.push_str(&lab.inspect("x").to_string());
    shown.push_str(&std::fs::read_to_string(lab.path("metadata")).unwrap());
    assert!(!shown.contains(secret), "{shown}");
    assert!(!holds(&lab.store(), secret.as_bytes()), "in the store");
    let archive = lab.path("x.tar");
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg("x")
        .output()
        .ok();
    assert!(!holds(&archive, secret.as_bytes()), "in the image");
}

#[test]
fn cve_2021_41190_a_manifest_that_is_also_an_index() {
    let lab = Lab::new();
    let layer = Tarball::busybox().bytes();
    let image = image_in_registry("x", &[&layer]);
    let good: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let mut both = good.clone();
    both["manifests"] = json!([{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{}", "a".repeat(64)), "size": 3}]);
    let mut claims_index = good.clone();
    claims_index["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    for (what, manifest, header) in [
        ("both", both, "application/vnd.oci.image.manifest.v1+json"),
        (
            "another type inside",
            claims_index,
            "application/vnd.oci.image.manifest.v1+json",
        ),
        (
            "another type outside",
            good.clone(),
            "application/vnd.oci.image.index.v1+json",
        ),
    ] {
        let server = image.serve(manifest.to_string().into_bytes(), header);
        let pull = lab.kiln(["pull", &format!("{}/x:latest", server.host())]);
        let out = pull.output();
        assert!(!out.orderly().succeeded(), "{what}");
    }
    let server = image.serve(
        image.manifest.clone(),
        "application/vnd.oci.image.manifest.v1+json",
    );
    lab.kiln(["pull", &format!("{}/x:latest", server.host())])
        .output()
        .ok();
}

#[test]
fn cve_2024_3727_digests_of_a_registry() {
    let lab = Lab::new();
    let image = image_in_registry("x", &[&Tarball::busybox().bytes()]);
    for digest in [
        "sha256:../../../meta-v1.db",
        "sha256:abc",
        "",
        "sha512:ff",
        "sha256:ZZ",
    ] {
        for field in ["config", "layer"] {
            let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
            let place = if field == "config" {
                &mut manifest["config"]
            } else {
                &mut manifest["layers"][0]
            };
            place["digest"] = digest.into();
            let server = image.serve(
                manifest.to_string().into_bytes(),
                "application/vnd.oci.image.manifest.v1+json",
            );
            lab.kiln(["pull", &format!("{}/x:latest", server.host())])
                .output()
                .failed();
            let asked = server.seen();
            assert!(
                asked
                    .iter()
                    .all(|r| !r.contains("meta-v1") && !r.contains("..")),
                "{asked:?}"
            );
        }
    }
}

#[test]
fn wrong_bytes_of_a_registry_are_never_used() {
    let lab = Lab::new();
    let mut image = image_in_registry("x", &[&Tarball::busybox().bytes()]);
    for blob in image.blobs.values_mut() {
        // As long as before, but another.
        let last = blob.len() - 1;
        blob[last] ^= 1;
    }
    let server = image.serve(
        image.manifest.clone(),
        "application/vnd.oci.image.manifest.v1+json",
    );
    let name = format!("{}/x:latest", server.host());
    lab.kiln(["pull", &name]).fails();
    lab.kiln(["run", "--rm", &name, "true"]).fails();
    let context = lab.dockerfile(&format!("FROM {name}\nRUN true\n"));
    lab.build(&context).fails();
}

#[test]
fn cve_2024_24557_what_is_pulled_or_loaded_is_no_cache() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM scratch\nCOPY f /f\n");
    context.write("f", "right");
    lab.build(&context).tag("x").built();
    let archive = lab.path("x.tar");
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg("x")
        .output()
        .ok();
    // Another store that has loaded an image with this very history runs the step all the same.
    let other = Lab::new();
    other.kiln(["load", "-i"]).arg(&archive).output().ok();
    other
        .build(&context)
        .tag("y")
        .built()
        .assert_ran(&["COPY f"]);
    // Settings are part of the result even if no step differs.
    let ids: Vec<String> = [
        "",
        "HEALTHCHECK CMD true\n",
        "ONBUILD RUN evil\n",
        "LABEL a=b\n",
    ]
    .iter()
    .map(|line| {
        context.dockerfile(&format!("FROM scratch\nCOPY f /f\n{line}"));
        lab.build(&context).built().image
    })
    .collect();
    let different: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
}

#[test]
fn credentials_serve_the_invocation_that_brought_them() {
    let lab = Lab::new();
    let image = image_in_registry("private", &[&Tarball::busybox().bytes()]);
    let server = image.serve_to("user:right");
    let name = format!("{}/private:latest", server.host());
    lab.kiln(["pull", &name]).fails();
    let config = |secret: &str| {
        let auth = tool("sh", ["-c", &format!("printf 'user:{secret}' | base64")]);
        let dir = lab.path(&format!("docker-{secret}"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(
            dir.join("config.json"),
            json!({"auths": {server.host(): {"auth": auth.trim()}}}).to_string(),
        )
        .unwrap();
        dir
    };
    lab.kiln(["pull", &name])
        .env("DOCKER_CONFIG", config("wrong"))
        .fails();
    lab.kiln(["pull", &name])
        .env("DOCKER_CONFIG", config("right"))
        .output()
        .ok();
    lab.kiln(["pull", &name]).fails();
    assert!(
        !holds(&lab.store(), b"user:right"),
        "credentials in the store"
    );
    // They go to no other host.
    let other = image.serve(
        image.manifest.clone(),
        "application/vnd.oci.image.manifest.v1+json",
    );
    lab.kiln(["pull", &format!("{}/private:latest", other.host())])
        .env("DOCKER_CONFIG", config("right"))
        .output()
        .ok();
    assert!(
        other.authorizations().is_empty(),
        "{:?}",
        other.authorizations()
    );
}

//! Steps, servers and Dockerfiles that never come to an end, or make more than anybody can hold.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use kiln_tests::{Lab, Random, Repository};

/// The config file of the tests with a section `[build]`.
fn config(lab: &Lab, settings: &str) -> PathBuf {
    let path = lab.path("config.toml");
    let usual = std::fs::read_to_string(kiln_tests::setting("KILN_TEST_CONFIG")).unwrap();
    std::fs::write(&path, format!("{usual}\n[build]\n{settings}\n")).unwrap();
    path
}

/// The address of a server that sends zeros for as long as somebody takes them, and says nothing of how many.
fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/endless", listener.local_addr().unwrap());
    let answer = |mut stream: TcpStream| {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let mut bytes = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        while stream.write_all(&bytes).is_ok() {
            bytes = vec![0; 1 << 20];
        }
    };
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    address
}

/// Bytes below a directory.
fn disk(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let sizes = entries.map(|entry| {
        let about = entry.metadata().unwrap();
        match about.is_dir() {
            true => disk(&entry.path()),
            false => about.len(),
        }
    });
    sizes.sum()
}

#[test]
fn a_file_without_end_is_not_downloaded() {
    let lab = Lab::new();
    let address = endless();
    let limit = 3 << 20;
    let text = format!("FROM scratch\nADD {address} /\n");
    let context = lab.dockerfile(&text);
    let too_large = format!("it has more than {limit} bytes");
    let by_flag = lab.build(&context).arg("--max-download").arg("3MB").fails();
    by_flag.says(&[&too_large, "--max-download SIZE"]);
    let file = config(&lab, "max-download = \"3MB\"");
    let by_file = lab.build(&context).env("KILN_CONFIG", &file).fails();
    by_file.says(&[&too_large]);
    // A context and an image come in the same way.
    let as_context = lab.kiln(["build", &address]).env("KILN_CONFIG", &file);
    as_context.fails().says(&[&too_large]);
    let as_image = lab
        .kiln(["import", &address, "x"])
        .env("KILN_CONFIG", &file);
    as_image.fails().says(&[&too_large]);
    assert!(disk(&lab.store()) < limit, "what is of no use stays");
}

#[test]
fn a_repository_that_is_too_large_is_not_fetched() {
    let lab = Lab::new();
    let repository = Repository::new(&lab.path("repository"));
    // Nothing that git could make smaller by much.
    let mut random = Random::new();
    let words: Vec<String> = (0..250_000)
        .map(|_| format!("{:x}", random.number()))
        .collect();
    repository.write("noise", &words.concat()).commit();
    let server = repository.serve();
    let url = server.url("/repo.git");
    let context = lab.dockerfile(&format!("FROM scratch\nADD {url} /\n"));
    let fails = lab.build(&context).arg("--max-download").arg("1MB").fails();
    fails.says(&["--max-download SIZE"]);
    lab.build(&context)
        .arg("--max-download")
        .arg("100MB")
        .built();
}

#[test]
fn what_a_step_prints_fills_no_disk() {
    let lab = Lab::new();
    let file = config(&lab, "max-step-log = \"1MB\"");
    let context = lab.dockerfile(
        "FROM busybox\nRUN echo the beginning; yes 'many a line' | head -n 400000; echo the end\n",
    );
    let build = lab.kiln(["build", "--progress=plain"]).arg(context.path());
    let out = build.env("KILN_CONFIG", &file).output().ok();
    // Whoever watches sees it all.
    let lines = out
        .err
        .lines()
        .filter(|l| l.ends_with("many a line"))
        .count();
    assert_eq!(lines, 400_000);
    let mut logs = Vec::new();
    for build in std::fs::read_dir(lab.store().join("logs-v1")).unwrap() {
        for log in std::fs::read_dir(build.unwrap().path()).unwrap() {
            logs.push(std::fs::read_to_string(log.unwrap().path()).unwrap());
        }
    }
    let [log] = logs.as_slice() else {
        panic!("{} logs", logs.len())
    };
    assert!(log.len() < (1 << 20) + 200, "{}", log.len());
    assert!(log.starts_with("the beginning\n") && log.ends_with("many a line\nthe end\n"));
    let left_out = 4_800_000 + "the beginning\nthe end\n".len() - (1 << 20);
    assert!(log.contains(&format!("[{left_out} bytes of output are left out here]")));
}

/// What goes between kiln, its helper and a sandbox may be as large as it gets: nobody waits for anybody.
#[test]
fn large_messages_do_not_block() {
    let lab = Lab::new();
    // A pipe holds 64 KiB. The largest word that the kernel gives to a command has 128.
    let command = "x".repeat(100_000);
    let variables: String = (0..10).map(|n| format!("ENV V{n}={command}\n")).collect();
    let deep: String = (0..400).map(|n| format!("/d{n}")).collect();
    let mounts: String = (0..200)
        .map(|n| format!("--mount=type=tmpfs,target=/many/m{n}/made/of/levels "))
        .collect();
    for (what, text) in [
        ("a command", format!("RUN : {command}")),
        ("an environment", format!("{variables}RUN :")),
        (
            "a way to a mount",
            format!("RUN --mount=type=tmpfs,target={deep} :"),
        ),
        ("mounts", format!("RUN {mounts} :")),
    ] {
        let context = lab.dockerfile(&format!("FROM busybox\n{text}\n"));
        let out = lab.build(&context).tag("x").output();
        assert!(
            out.succeeded(),
            "{what}: {}",
            out.err.chars().take(2000).collect::<String>()
        );
        // Nothing is left of mount points that had to be made.
        assert_eq!(
            lab.run("x", &["sh", "-c", "ls -d /d0 /many 2>/dev/null || true"]),
            "",
            "{what}"
        );
    }
}

#[test]
fn a_dockerfile_that_grows_is_refused() {
    let lab = Lab::new();
    let mut text = String::from("FROM scratch\nENV a=0123456789abcdef0123456789abcdef\n");
    text.push_str(&"ENV a=$a$a\n".repeat(20));
    text.extend((0..40).map(|n| format!("ENV v{n}=$a\n")));
    let context = lab.dockerfile(&text);
    for flag in ["--check", "--quiet"] {
        // In a tenth of the memory that the values would take.
        let build = lab
            .build(&context)
            .arg(flag)
            .through("ulimit -v 2000000; exec \"$@\"");
        build
            .fails()
            .says(&["take more than 128 MiB", "look for a value that grows"]);
    }
}

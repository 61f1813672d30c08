//! Real software: each image is built cold, built again, built after a change, run, and read by
//! other tools.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use kiln_tests::{Lab, skopeo_inspect, tool};
use nix::sys::signal::Signal;

/// Reads the image with skopeo, podman and umoci; `path` must be in the file system.
#[track_caller]
fn read_by_others(lab: &Lab, image: &str, path: &str) {
    let archive = lab.path("image.tar");
    lab.kiln(["save", "-o"])
        .arg(&archive)
        .arg(image)
        .output()
        .ok();
    let source = format!("docker-archive:{}", archive.display());
    let layers = lab.inspect(image)["RootFS"]["Layers"].clone();
    assert_eq!(skopeo_inspect(&source)["rootfs"]["diff_ids"], layers);

    let layout = lab.path("layout");
    tool(
        "skopeo",
        [
            "copy",
            "--quiet",
            &source,
            &format!("oci:{}:x", layout.display()),
        ],
    );
    let bundle = lab.path("bundle");
    tool(
        "umoci",
        [
            "unpack",
            "--image",
            &format!("{}:x", layout.display()),
            bundle.to_str().unwrap(),
        ],
    );
    assert!(
        bundle.join("rootfs").join(path).symlink_metadata().is_ok(),
        "no {path}"
    );

    let root = lab.path("podman");
    let (graph, run) = (root.join("graph"), root.join("run"));
    let podman = [
        "--storage-driver",
        "vfs",
        "--root",
        graph.to_str().unwrap(),
        "--runroot",
        run.to_str().unwrap(),
    ];
    let load = ["load", "--quiet", "--input", archive.to_str().unwrap()];
    let said = tool("podman", podman.iter().chain(&load));
    assert!(said.contains("Loaded image"), "{said}");
    for place in [bundle, layout, root, archive] {
        tool("rm", ["-rf", place.to_str().unwrap()]);
    }
}

/// What is at `http://127.0.0.1:port/`, as soon as somebody answers.
fn fetch(port: u16) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            return text;
        }
        assert!(Instant::now() < until, "nobody answers on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Workload a.
#[test]
fn a_web_server() {
    let lab = Lab::new();
    let context = lab.context("hello", &[]);
    context.copy_testdata("hello");
    lab.build(&context)
        .tag("hello")
        .built()
        .assert_ran(&["RUN apt-get", "RUN echo"]);
    lab.build(&context).tag("hello").built().assert_all_cached();
    let text = std::fs::read_to_string(context.at("Dockerfile")).unwrap();
    context.dockerfile(&text.replace("Docker!", "world!"));
    lab.build(&context)
        .tag("hello")
        .built()
        .assert_ran(&["RUN echo"]);

    // Port 80 is in the image; where it is taken, a configuration of our own goes over it.
    let mut run = lab.kiln(["run", "--rm", "--network", "host"]);
    let mut port = 80;
    if TcpListener::bind("0.0.0.0:80").is_err() {
        port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let site = lab.path("site");
        let text = format!(
            "server {{ listen 127.0.0.1:{port}; root /var/www/html; index index.html; }}\n"
        );
        std::fs::write(&site, text).unwrap();
        run = run.args([
            "-v",
            &format!("{}:/etc/nginx/sites-enabled/default:ro", site.display()),
        ]);
    }
    let server = run.arg("hello").start();
    let page = fetch(port);
    assert!(page.contains("<h1>Hello, world!</h1>"), "{page}");
    server.signal(Signal::SIGTERM);
    server.wait().orderly();
    lab.assert_clean();
    assert_eq!(
        lab.inspect("hello")["Config"]["ExposedPorts"],
        serde_json::json!({"80/tcp": {}})
    );
    read_by_others(&lab, "hello", "usr/sbin/nginx");
}

/// Workload b.
#[test]
fn a_server_built_from_source_in_one_step() {
    let lab = Lab::new();
    let context = lab.context("redis", &[]);
    context.copy_testdata("redis");
    lab.build(&context)
        .tag("redis")
        .built()
        .assert_ran(&["RUN set -eux", "COPY redis.conf"]);
    lab.build(&context).tag("redis").built().assert_all_cached();
    context.write(
        "redis.conf",
        "save \"\"\nport 0\nunixsocket /tmp/other.sock\n",
    );
    lab.build(&context)
        .tag("redis")
        .built()
        .assert_ran(&["COPY redis.conf"]);

    let script = "redis-server /etc/redis.conf >/dev/null & \
        for i in $(seq 100); do [ -S /tmp/other.sock ] && break; sleep 0.1; done; \
        redis-cli -s /tmp/other.sock set k v; redis-cli -s /tmp/other.sock get k; \
        command -v gcc make cc || echo no compiler";
    assert_eq!(
        lab.run("redis", &["sh", "-c", script]),
        "OK\nv\nno compiler"
    );

    // The layer of the step holds the difference only.
    let archive = lab.path("layers.tar");
    lab.kiln(["save", "--format", "oci", "-o"])
        .arg(&archive)
        .arg("redis")
        .output()
        .ok();
    let size = |field: &str| -> u64 {
        let raw = tool(
            "skopeo",
            [
                "inspect",
                "--raw",
                &format!("oci-archive:{}", archive.display()),
            ],
        );
        let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
        manifest["layers"].as_array().unwrap()[1][field]
            .as_u64()
            .unwrap()
    };
    assert!(
        size("size") < 8 << 20,
        "{} bytes for two programs",
        size("size")
    );
    read_by_others(&lab, "redis", "usr/local/bin/redis-server");
}

/// Workload c.
#[test]
fn a_node_application() {
    let lab = Lab::new();
    let context = lab.context("node", &[]);
    context.copy_testdata("node");
    let cold = lab.build(&context).tag("page").built();
    assert!(
        cold.ran().iter().any(|s| s.contains("npm ci")),
        "{:?}",
        cold.ran()
    );
    lab.build(&context).tag("page").built().assert_all_cached();
    context.write("src/page.md", "# Changed\n");
    lab.build(&context).tag("page").built().assert_ran(&[
        "COPY . .",
        "RUN npm run build",
        "COPY --from=build",
    ]);

    let page = lab.kiln(["run", "--rm", "page"]).output().ok();
    assert!(page.stdout().contains("<h1>Changed</h1>"), "{page}");
    let files = lab.run(
        "page",
        &[
            "sh",
            "-c",
            "ls /var/www; ls -d /app /root/.npm 2>/dev/null; true",
        ],
    );
    assert_eq!(files, "index.html\npage.js");
    // A new lock file installs again, from the mounted cache as far as it goes.
    let manifest = std::fs::read_to_string(context.at("package.json")).unwrap();
    context.write(
        "package.json",
        manifest.replace("\"private\"", "\"license\": \"Apache-2.0\", \"private\""),
    );
    let again = lab.build(&context).tag("page").built();
    assert!(
        again.ran().iter().any(|s| s.contains("npm ci")),
        "{:?}",
        again.ran()
    );
    read_by_others(&lab, "page", "var/www/index.html");
}

/// Workloads d and e: a build directory in a cache mount, and a static program from scratch.
#[test]
fn a_c_project_and_a_static_program() {
    let lab = Lab::new();
    let context = lab.context("project", &[]);
    context.copy_testdata("c-project");
    let cold = lab.build(&context).tag("words").built();
    assert_eq!(
        cold.log().matches("compiling src/").count(),
        3,
        "{}",
        cold.log()
    );
    assert_eq!(
        lab.kiln(["run", "--rm", "words"]).output().ok().stdout(),
        "words: 3"
    );
    lab.build(&context).tag("words").built().assert_all_cached();

    let text = std::fs::read_to_string(context.at("src/main.c")).unwrap();
    context.write(
        "src/main.c",
        text.replace("GREETING \"words\"", "GREETING \"count\""),
    );
    let changed = lab.build(&context).tag("words").built();
    changed.assert_ran(&["COPY . .", "RUN --mount=type=cache", "COPY --from=build"]);
    assert!(
        changed.log().contains("compiling src/main.c"),
        "{}",
        changed.log()
    );
    assert_eq!(
        lab.kiln(["run", "--rm", "words", "a b"])
            .output()
            .ok()
            .stdout(),
        "count: 2"
    );
    assert_eq!(
        lab.inspect("words")["RootFS"]["Layers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    read_by_others(&lab, "words", "words");
}

/// Workload e, with a binary of this machine.
#[test]
fn a_static_binary_from_scratch() {
    let lab = Lab::new();
    let context = lab.context(
        "static",
        &[(
            "main.c",
            "#include <stdio.h>\nint main(void) { puts(\"bare\"); }\n",
        )],
    );
    let (source, program) = (context.at("main.c"), context.at("program"));
    tool(
        "cc",
        [
            "-static",
            "-o",
            program.to_str().unwrap(),
            source.to_str().unwrap(),
        ],
    );
    context.dockerfile("FROM scratch\nCOPY program /\nCMD [\"/program\"]\n");
    lab.build(&context)
        .tag("bare")
        .built()
        .assert_ran(&["COPY program"]);
    lab.build(&context).tag("bare").built().assert_all_cached();
    assert_eq!(
        lab.kiln(["run", "--rm", "bare"]).output().ok().stdout(),
        "bare"
    );
    context.write(
        "main.c",
        "#include <stdio.h>\nint main(void) { puts(\"changed\"); }\n",
    );
    lab.build(&context).tag("bare").built().assert_all_cached();
    tool(
        "cc",
        [
            "-static",
            "-o",
            program.to_str().unwrap(),
            source.to_str().unwrap(),
        ],
    );
    lab.build(&context)
        .tag("bare")
        .built()
        .assert_ran(&["COPY program"]);
    assert_eq!(
        lab.kiln(["run", "--rm", "bare"]).output().ok().stdout(),
        "changed"
    );
    read_by_others(&lab, "bare", "program");
}

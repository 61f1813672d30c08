//! `kiln run`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::time::{Duration, Instant};

use kiln_tests::{Lab, Tarball};
use nix::sys::signal::Signal;

/// A lab with the image `x`: busybox with a few settings.
fn lab() -> Lab {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nENV FROM_IMAGE=yes\nRUN mkdir -p /work && echo data > /work/f\nWORKDIR /work\nCMD [\"echo\", \"default\"]\n",
    );
    lab.build(&context).tag("x").built();
    lab
}

/// As docker does it: said on stderr, and only where it is pulled.
#[test]
fn an_image_that_is_not_here_is_pulled_before_ones_eyes() {
    let lab = Lab::new();
    let run = |options: &[&str]| {
        let run = lab.kiln(["run", "--rm"]).args(options);
        run.args(["busybox", "echo", "it ran"]).output()
    };
    let never = run(&["--pull", "never"]).failed();
    assert_eq!(never.code(), Some(125), "{never}");
    let missing = "Unable to find image 'busybox:latest' locally";
    let first = run(&[]).ok().says(&[
        missing,
        "#1 pull docker.io/library/busybox:latest",
        "#1 DONE",
        "Digest: sha256:",
        "Status: Downloaded newer image for busybox:latest",
    ]);
    assert_eq!(first.stdout(), "it ran");
    for (options, told) in [
        (&[][..], ""),
        (&["--pull", "never"], ""),
        (&["--pull", "always"], "Image is up to date for busybox"),
    ] {
        let again = run(options).ok().says(&[told]);
        assert_eq!(again.stdout(), "it ran");
        assert!(!again.err.contains(missing), "{again}");
        assert_eq!(again.err.is_empty(), told.is_empty(), "{again}");
    }
    lab.kiln(["rmi", "busybox"]).output().ok();
    let quiet = run(&["-q"]).ok();
    assert_eq!((quiet.stdout(), quiet.err.as_str()), ("it ran", ""));
    let other = ["--pull", "never", "--platform", "linux/arm64"];
    run(&other)
        .failed()
        .says(&["here for linux/amd64, and not for linux/arm64"]);
    let nosuch = lab.kiln(["run", "nosuch"]).fails();
    assert_eq!(nosuch.code(), Some(125), "{nosuch}");
    nosuch.says(&["Unable to find image 'nosuch:latest' locally"]);
}

#[test]
fn the_command_of_the_image_or_of_the_line() {
    let lab = lab();
    let out = |arguments: &[&str]| {
        lab.kiln(["run", "--rm"])
            .args(arguments)
            .output()
            .ok()
            .stdout()
            .to_owned()
    };
    assert_eq!(out(&["x"]), "default");
    assert_eq!(out(&["x", "cat", "f"]), "data");
    assert_eq!(
        out(&["--entrypoint", "/bin/echo", "x", "only", "--these"]),
        "only --these"
    );
    assert_eq!(out(&["-w", "/", "x", "pwd"]), "/");
    assert_eq!(
        out(&[
            "-e",
            "A=1 2",
            "-e",
            "FROM_IMAGE=no",
            "x",
            "sh",
            "-c",
            "echo $A $FROM_IMAGE"
        ]),
        "1 2 no"
    );
    assert_eq!(out(&["-u", "33:100", "x", "id", "-u"]), "33");
    assert_eq!(out(&["-u", "www-data", "x", "id", "-g"]), "33");
    assert_eq!(
        out(&["--network", "none", "x", "ls", "/sys/class/net"]),
        "lo"
    );
    assert_eq!(out(&["busybox", "echo", "pulled"]), "pulled");
}

#[test]
fn exit_codes_are_passed_on() {
    let lab = lab();
    for (command, code) in [
        (&["sh", "-c", "exit 0"][..], 0),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (&["/no/such/program"], 127),
        (&["/work/f"], 126),
    ] {
        let out = lab
            .kiln(["run", "--rm", "x"])
            .args(command)
            .output()
            .orderly();
        assert_eq!(out.code(), Some(code), "{command:?}: {out}");
    }
    let out = lab
        .kiln(["run", "--rm", "no/such:image"])
        .output()
        .orderly();
    assert_eq!(out.code(), Some(125), "{out}");
}

#[test]
fn streams_are_passed_both_ways() {
    let lab = lab();
    let out = lab
        .kiln([
            "run",
            "--rm",
            "-i",
            "x",
            "sh",
            "-c",
            "cat; echo problem >&2",
        ])
        .stdin("in\n")
        .output()
        .ok();
    assert_eq!((out.stdout(), out.err.as_str()), ("in", "problem\n"));
    // Without -i there is nothing to read.
    let out = lab
        .kiln(["run", "--rm", "x", "wc", "-c"])
        .stdin("not passed on")
        .output()
        .ok();
    assert_eq!(out.stdout(), "0");
    let big = vec![b'x'; 3 << 20];
    let out = lab
        .kiln(["run", "--rm", "-i", "x", "cat"])
        .stdin(big.clone())
        .output()
        .ok();
    assert_eq!(out.out.len(), big.len());
}

#[test]
fn signals_are_forwarded() {
    let lab = lab();
    let script =
        "trap 'echo caught; exit 5' TERM; echo ready > /v/ready; while true; do sleep 0.1; done";
    let shared = lab.context("shared", &[]);
    let run = lab
        .kiln(["run", "--rm", "-v"])
        .arg(format!("{}:/v", shared.path().display()))
        .args(["x", "sh", "-c", script])
        .start();
    wait_for(|| shared.at("ready").exists());
    run.signal(Signal::SIGTERM);
    let out = run.wait();
    assert_eq!((out.code(), out.stdout()), (Some(5), "caught"), "{out}");
}

#[test]
fn a_killed_run_takes_its_container_along() {
    let lab = lab();
    let shared = lab.context("shared", &[]);
    let run = lab
        .kiln(["run", "--rm", "-v"])
        .arg(format!("{}:/v", shared.path().display()))
        .args(["x", "sh", "-c", "touch /v/ready; sleep 1000"])
        .start();
    wait_for(|| shared.at("ready").exists());
    run.signal(Signal::SIGKILL);
    assert!(!run.wait().succeeded());
    // The next command clears up what the killed one could not.
    lab.kiln(["run", "--rm", "x", "true"]).output().ok();
    lab.assert_clean();
}

#[test]
fn volumes_are_mounted() {
    let lab = lab();
    let shared = lab.context("shared", &[("f", "host")]);
    let at = shared.path().display().to_string();
    let run = |spec: &str, script: &str| {
        lab.kiln(["run", "--rm", "-v", spec, "x", "sh", "-c", script])
            .output()
    };
    assert_eq!(
        run(&format!("{at}:/v"), "cat /v/f; echo made > /v/new")
            .ok()
            .stdout(),
        "host"
    );
    assert_eq!(std::fs::read_to_string(shared.at("new")).unwrap(), "made\n");
    run(&format!("{at}:/v:ro"), "echo no > /v/f").failed();
    assert_eq!(std::fs::read_to_string(shared.at("f")).unwrap(), "host");
    assert_eq!(
        run(&format!("{at}/f:/etc/deep/file:ro"), "cat /etc/deep/file")
            .ok()
            .stdout(),
        "host"
    );
}

#[test]
fn mounts_that_cannot_be_are_refused() {
    let lab = lab();
    let shared = lab.context("shared", &[("f", "host")]);
    let at = shared.path().display();
    for (specs, code, said) in [
        (vec![format!("{at}:/")], 2, "root cannot be mounted over"),
        (vec![format!("{at}:/v/../..")], 2, "root cannot be mounted"),
        (vec![format!("{at}:/v:ro,rw")], 2, "`ro` or `rw`"),
        (
            vec![format!("{at}:/v"), format!("{at}/f:/v/")],
            2,
            "two mounts at `/v`",
        ),
        (
            vec![format!("{at}:/etc/passwd")],
            125,
            "a directory cannot be mounted over the file `/etc/passwd`",
        ),
        (
            vec![format!("{at}/f:/etc")],
            125,
            "a file cannot be mounted over the directory `/etc`",
        ),
    ] {
        let options = specs.iter().flat_map(|spec| ["-v", spec.as_str()]);
        let run = lab.kiln(["run", "--rm"]).args(options);
        let out = run.args(["x", "true"]).fails();
        assert_eq!(out.code(), Some(code), "{out}");
        out.says(&[said]);
    }
}

#[test]
fn an_image_for_another_platform_is_found_and_warned_of() {
    let lab = lab();
    let build = lab.kiln(["build", "-q", "--platform", "linux/arm64", "-t", "arm"]);
    let context = lab.context(
        "arm",
        &[("Dockerfile", "FROM scratch\nCOPY Dockerfile /x\n")],
    );
    build.last(context.path()).output().ok();
    for pull in ["missing", "never"] {
        let out = lab.kiln(["run", "--rm", "--pull", pull, "arm", "/x"]);
        out.fails()
            .says(&["`arm` is an image for linux/arm64, and this is linux/amd64"]);
    }
}

#[test]
fn what_a_container_writes_stays_out_of_its_image() {
    let lab = lab();
    lab.run(
        "x",
        &["sh", "-c", "echo changed > f; rm -rf /bin/wget; touch /new"],
    );
    assert_eq!(
        lab.run(
            "x",
            &["sh", "-c", "cat f; ls /new 2>/dev/null; ls /bin/wget"]
        ),
        "data\n/bin/wget"
    );
}

#[test]
fn a_terminal_is_a_real_one() {
    let lab = lab();
    let out = lab
        .kiln([
            "run",
            "--rm",
            "-t",
            "x",
            "sh",
            "-c",
            "test -t 0 && test -t 1 && tty; stty size >/dev/null && echo sized",
        ])
        .output()
        .ok();
    let text = out.stdout().replace('\r', "");
    assert!(text.contains("/dev/") && text.contains("sized"), "{text:?}");
    let plain = lab
        .kiln(["run", "--rm", "x", "sh", "-c", "test -t 1 || echo none"])
        .output()
        .ok();
    assert_eq!(plain.stdout(), "none");
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Garbage collection takes what was not used for long: running an image is use.
#[test]
fn an_image_that_is_run_has_used_its_layers() {
    let lab = Lab::new();
    lab.import(&Tarball::busybox().bytes(), "x");
    std::thread::sleep(Duration::from_secs(7));
    let begun = Instant::now();
    assert_eq!(lab.run("x", &["echo", "1"]), "1");
    lab.kiln(["rmi", "x"]).output().ok();
    let layers = || {
        let all = std::fs::read_dir(lab.store().join("layers-v1")).unwrap();
        all.count()
    };
    let before = layers();
    // Longer ago than that is only when it came.
    let unused = format!("unused-for={}s", begun.elapsed().as_secs() + 5);
    let prune = ["prune", "-f", "--filter", &unused];
    let kept = lab.kiln(prune).output().ok();
    assert_eq!(layers(), before, "{kept}");
    lab.kiln(["prune", "-f"]).output().ok();
    assert!(layers() < before);
}

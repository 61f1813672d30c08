//! `kiln image prune` and `kiln system prune`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::{Lab, Output};

/// A lab with `app:1`, an image that has lost its name, and the base.
fn lab() -> Lab {
    let lab = Lab::new();
    for text in ["old", "new"] {
        let file = format!("FROM busybox\nLABEL stage={text}\nRUN echo {text} > /x\n");
        let context = lab.dockerfile(&file);
        lab.build(&context).tag("app:1").built();
    }
    lab
}

fn names(lab: &Lab) -> Vec<String> {
    let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    let listed = lab.kiln(format).output().ok();
    let mut names: Vec<String> = listed.stdout().lines().map(str::to_owned).collect();
    names.sort_unstable();
    names
}

fn prune(lab: &Lab, words: &[&str]) -> Output {
    lab.kiln(words).output().ok()
}

#[test]
fn images_without_a_name_go_and_others_when_asked_to() {
    let lab = lab();
    let all = ["<none>:<none>", "app:1", "busybox:latest"];
    assert_eq!(names(&lab), all);
    lab.kiln(["image", "prune"]).fails().says(&["--force"]);
    for filter in ["until=1h", "label=stage=other", "label!=stage"] {
        let out = prune(&lab, &["image", "prune", "-f", "--filter", filter]);
        assert_eq!(out.stdout(), "Total reclaimed space: 0B", "{filter}");
    }
    assert_eq!(names(&lab), all);
    let filter = ["image", "prune", "-f", "--filter", "label=stage=old"];
    let out = prune(&lab, &filter);
    let text = out.stdout();
    assert!(
        text.starts_with("Deleted Images:\ndeleted: sha256:"),
        "{out}"
    );
    assert!(!text.contains("untagged"), "{out}");
    // The layer that only this image held is free now.
    let out = out.says(&["`kiln prune` frees"]);
    drop(out);
    assert_eq!(names(&lab), all[1..]);

    let running = lab.kiln(["run", "app:1", "sleep", "60"]).start();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let df = ["system", "df", "--format", "{{.Type}} {{.Active}}"];
    while !lab.kiln(df).output().ok().stdout().contains("Images 1") {
        assert!(std::time::Instant::now() < until, "it never ran");
    }
    let out = prune(&lab, &["image", "prune", "-af"]);
    assert!(out.stdout().contains("untagged: busybox:latest"), "{out}");
    assert_eq!(names(&lab), ["app:1"]);
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait();
    let out = prune(&lab, &["image", "prune", "-a", "-f"]);
    assert!(out.stdout().contains("untagged: app:1"), "{out}");
    assert!(names(&lab).is_empty());
    prune(&lab, &["fsck"]);
}

#[test]
fn a_system_is_pruned_of_images_and_cache() {
    let lab = lab();
    let filter = ["system", "prune", "-f", "--filter"];
    lab.kiln(filter)
        .arg("label=x")
        .fails()
        .says(&["until=TIME"]);
    lab.kiln(filter).arg("until=1h").output().ok();
    assert_eq!(names(&lab).len(), 3);
    let out = prune(&lab, &["system", "prune", "-f"]);
    for told in ["Deleted Images:", "layers: 1 ", "Total reclaimed space: "] {
        assert!(out.stdout().contains(told), "no {told} in {out}");
    }
    assert_eq!(names(&lab), ["app:1", "busybox:latest"]);
    prune(&lab, &["system", "prune", "-af"]);
    assert!(names(&lab).is_empty());
    let df = prune(
        &lab,
        &["system", "df", "--format", "{{.Type}} {{.TotalCount}}"],
    );
    assert!(df.stdout().contains("Images 0\nBuild Cache 0\n"), "{df}");
    prune(&lab, &["fsck"]);
}

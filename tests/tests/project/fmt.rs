//! `kiln fmt`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::PermissionsExt as _;

use kiln_tests::Lab;

const UGLY: &str =
    "from  busybox as base\n\n\n\nrun echo a && \\\n  echo b \ncmd [\"sh\",\"-c\",\"ls  /\"]";
const PRETTY: &str =
    "FROM busybox AS base\n\nRUN echo a && \\\n    echo b\nCMD [\"sh\", \"-c\", \"ls  /\"]\n";

fn read(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn files_are_written_in_place() {
    let lab = Lab::new();
    let context = lab.dockerfile(UGLY);
    context
        .write("other/Dockerfile.dev", UGLY)
        .mode("other/Dockerfile.dev", 0o640)
        .link("link", "other/Dockerfile.dev");
    let out = lab.kiln(["fmt"]).dir(context.path()).output().ok();
    assert_eq!(out.stdout(), "");
    assert!(out.err.contains("formatted Dockerfile"), "{out}");
    assert_eq!(read(&context.at("Dockerfile")), PRETTY);
    // A link stays a link, and a mode stays.
    lab.kiln(["fmt", "link"]).dir(context.path()).output().ok();
    assert!(context.at("link").is_symlink());
    let dev = context.at("other/Dockerfile.dev");
    assert_eq!(read(&dev), PRETTY);
    assert_eq!(
        std::fs::metadata(&dev).unwrap().permissions().mode() & 0o7777,
        0o640
    );
    let names = std::fs::read_dir(context.at("other")).unwrap().count();
    assert_eq!(names, 1, "a temporary file was left");
    // Nothing is left to do.
    let again = lab
        .kiln(["fmt", "--check", ".", "link"])
        .dir(context.path())
        .output()
        .ok();
    assert_eq!((again.stdout(), again.err.as_str()), ("", ""), "{again}");
}

#[test]
fn checks_and_diffs_write_nothing() {
    let lab = Lab::new();
    let context = lab.dockerfile(UGLY);
    context.write("good/Dockerfile", PRETTY);
    let check = lab
        .kiln(["fmt", "--check", "good", "Dockerfile"])
        .dir(context.path())
        .fails();
    assert_eq!(check.code(), Some(1));
    assert_eq!(check.out, b"Dockerfile\n");
    let diff = lab
        .kiln(["fmt", "--diff"])
        .dir(context.path())
        .output()
        .ok();
    for line in [
        "--- Dockerfile",
        "@@ -1,7 +1,5 @@",
        "-from  busybox as base",
        "+FROM busybox AS base",
        "+    echo b",
    ] {
        assert!(diff.stdout().lines().any(|l| l == line), "{line}: {diff}");
    }
    assert_eq!(read(&context.at("Dockerfile")), UGLY);
}

#[test]
fn standard_input_goes_to_standard_output() {
    let lab = Lab::new();
    let out = lab.kiln(["fmt", "-"]).stdin(UGLY).output().ok();
    assert_eq!(out.out, PRETTY.as_bytes());
    let check = lab.kiln(["fmt", "--check", "-"]).stdin(UGLY).fails();
    assert_eq!(check.out, b"<stdin>\n");
    // Nothing is written to a store.
    assert!(!lab.store().exists());
}

#[test]
fn files_with_errors_stay_as_they_are() {
    let lab = Lab::new();
    let context = lab.dockerfile("from busybox\nrunn a\n");
    context.write("Other", UGLY);
    let out = lab
        .kiln(["fmt", "Dockerfile", "missing", "Other"])
        .dir(context.path())
        .fails();
    assert_eq!(out.code(), Some(1));
    out.says(&["unknown instruction `runn`", "Dockerfile:2:1", "missing"]);
    assert_eq!(read(&context.at("Dockerfile")), "from busybox\nrunn a\n");
    // The others are formatted all the same.
    assert_eq!(read(&context.at("Other")), PRETTY);
}

#[test]
fn a_formatted_file_builds_from_the_cache() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "from  busybox\nenv a=b   c=\"d  e\"\nrun printf '%s \\\n  x' \"$a $c\" > /out\nrun <<EOF\n  echo '  f' >> /out\nEOF\n",
    );
    let build = || {
        lab.kiln(["build", "--progress", "rawjson", "-t", "x"])
            .last(context.path())
            .built()
    };
    build();
    lab.kiln(["fmt"]).dir(context.path()).output().ok();
    assert!(
        read(&context.at("Dockerfile")).contains("\nENV a=b c=\"d  e\"\nRUN printf '%s \\\n  x'")
    );
    build().assert_all_cached();
}

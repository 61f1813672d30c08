//! The same bytes again: whatever the machine, and as `--check-reproducible` finds out.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use kiln_tests::{Lab, tool};

const EPOCH: &str = "1500000000";

#[test]
fn neither_umask_nor_file_system_of_the_store_are_in_the_image() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            (
                "Dockerfile",
                "FROM busybox AS a\nRUN mkdir -p /out/sub && echo a > /out/f && ln /out/f /out/hard \\\n\
                 && ln -s f /out/soft && chmod 4751 /out/f && chown 7:8 /out/sub\n\
                 FROM busybox\nWORKDIR /made/by/workdir\nCOPY src /src\nCOPY --from=a /out ./out\n\
                 COPY <<EOF /new/dir/doc\ntext\nEOF\nADD --chown=3:4 src/a.c /added/\n\
                 COPY --link src/a.c /linked/\n\
                 RUN --mount=type=bind,target=/m cp -r /m/src /copied && rm -r /src && mkdir /src && touch /z /y /x\n",
            ),
            ("src/a.c", "int main() {}\n"),
            ("src/sub/b", "b"),
        ],
    );
    for (path, mode) in [
        ("src", 0o755),
        ("src/sub", 0o750),
        ("src/a.c", 0o644),
        ("src/sub/b", 0o600),
    ] {
        context.mode(path, mode);
    }
    let disk = lab.path("disk.img");
    std::fs::File::create(&disk)
        .unwrap()
        .set_len(512 << 20)
        .unwrap();
    tool("mkfs.ext4", ["-q", disk.to_str().unwrap()]);
    let store = lab.store().display().to_string();
    let tmpfs = format!("mkdir -p {store}; mount -t tmpfs tmpfs {store}");
    let ext4 = format!("mkdir -p {store}; mount -o loop {} {store}", disk.display());
    let mut found = BTreeSet::new();
    let cases = [
        ("umask 022".to_owned(), "a"),
        ("umask 077".to_owned(), "b"),
        (format!("{tmpfs}; umask 000"), "c"),
        (format!("{ext4}; umask 027"), "d"),
    ];
    for (script, name) in &cases {
        let archive = lab.path(&format!("{name}.tar"));
        let built = lab
            .build(&context)
            .args([
                "--no-cache",
                "-o",
                &format!("type=oci,dest={}", archive.display()),
            ])
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .after(script)
            .built();
        let bytes = std::fs::read(&archive).unwrap();
        found.insert((built.image, bytes));
    }
    let images: BTreeSet<&String> = found.iter().map(|(image, _)| image).collect();
    assert_eq!(images.len(), 1, "{images:?}");
    assert_eq!(found.len(), 1, "the archives differ");
}

/// The layers, cache mounts and records that the store has.
fn contents(lab: &Lab) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in ["layers-v1", "mounts-v1", "work-v1"] {
        let entries = std::fs::read_dir(lab.store().join(folder)).unwrap();
        all.extend(entries.map(|e| e.unwrap().path()));
    }
    all.sort();
    all
}

#[test]
fn a_build_that_repeats_passes_and_leaves_nothing() {
    let lab = Lab::new();
    let context = lab.context(
        "context",
        &[
            (
                "Dockerfile",
                "FROM busybox AS a\nRUN mkdir /out && echo a > /out/f\nFROM busybox\nWORKDIR /w\n\
                 COPY src .\nRUN --mount=type=cache,target=/c echo more >> /c/log; echo x > /x\n\
                 COPY --link --from=a /out /out\n",
            ),
            ("src/a.c", "a"),
        ],
    );
    let build = || lab.build(&context).env("SOURCE_DATE_EPOCH", EPOCH);
    let first = build().built();
    lab.assert_clean();
    let before = contents(&lab);
    let checked = build().arg("--check-reproducible").output().ok();
    assert!(
        checked.err.contains(r#""event":"reproducible""#),
        "{}",
        checked.err
    );
    lab.assert_clean();
    assert_eq!(contents(&lab), before);
    let after = build().built();
    after.assert_all_cached();
    assert_eq!(after.image, first.image);
    // The cache mount has seen the first build alone.
    let mounts = std::fs::read_dir(lab.store().join("mounts-v1")).unwrap();
    let logs =
        mounts.filter_map(|m| std::fs::read_to_string(m.unwrap().path().join("data/log")).ok());
    assert_eq!(logs.collect::<Vec<_>>(), ["more\n"]);
}

#[test]
fn a_build_that_does_not_repeat_names_step_path_field_and_byte() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN echo same > /same\nRUN echo built at > /stamp; date +%s >> /stamp\nRUN cp /stamp /copy\n",
    );
    let check = |epoch: Option<&str>| {
        let build = lab.kiln(["build", "--progress=plain", "--check-reproducible"]);
        let build = build.last(context.path());
        match epoch {
            Some(epoch) => build.env("SOURCE_DATE_EPOCH", epoch),
            None => build,
        }
    };
    lab.build(&context).env("SOURCE_DATE_EPOCH", EPOCH).built();
    std::thread::sleep(Duration::from_millis(1100));
    let output = check(Some(EPOCH)).output().failed();
    assert_eq!(output.code(), Some(1));
    let tail = output.err.split("not the same: ").nth(1).unwrap();
    assert!(
        tail.starts_with("[3/4] RUN echo built at > /stamp"),
        "{tail}"
    );
    // "built at\n" is the same, and so is the beginning of the time.
    let from = tail
        .split("/stamp: content differs from byte ")
        .nth(1)
        .unwrap();
    let offset: u64 = from.split(' ').next().unwrap().parse().unwrap();
    assert!((9..=18).contains(&offset), "{offset}");
    assert!(
        tail.contains("then also: [4/4] RUN cp /stamp /copy: /copy (content)"),
        "{tail}"
    );
    assert!(
        tail.contains("error: the build is not reproducible"),
        "{tail}"
    );
    assert!(!tail.contains("hint:"), "{tail}");
    let without = check(None).output().failed();
    assert!(
        without.err.contains("set SOURCE_DATE_EPOCH")
            || without.err.contains("SOURCE_DATE_EPOCH is not set")
    );
}

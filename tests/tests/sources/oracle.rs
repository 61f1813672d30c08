//! Is a hit always justified? What the cache gives must be what a build without it makes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use kiln_tests::{Context, Lab, Random};

const DOCKERFILE: &str = "FROM busybox AS base\nCOPY lib /lib\nRUN cd /lib && find . | sort | while read f; do stat -c '%A %n %s' \"$f\"; done > /lib.txt\n\
    FROM base AS app\nCOPY *.conf app/*/ /app/\nRUN cat /app/* > /app.txt 2>/dev/null; true\n\
    FROM busybox\nCOPY --from=base /lib.txt /\nCOPY --from=app /app.txt /\nCOPY --exclude=*.tmp . /all\n\
    RUN --mount=source=lib,target=/m find /m -type f -exec cat {} + | sha256sum > /sum\n";

const NAMES: [&str; 10] = [
    "lib/a",
    "lib/b",
    "lib/sub/c",
    "lib/sub/d",
    "x.conf",
    "y.conf",
    "app/one/f",
    "app/two/g",
    "z.tmp",
    "ignored/h",
];

fn start(context: &Context) {
    context
        .dockerfile(DOCKERFILE)
        .write(".dockerignore", "ignored\n");
    for name in NAMES {
        context.write(name, format!("{name}\n"));
    }
}

/// One random change.
fn edit(context: &Context, random: &mut Random) -> String {
    let name = random.pick(&NAMES);
    let path = context.at(name);
    let kind = random.below(11);
    let is_file = path.symlink_metadata().is_ok_and(|m| m.is_file());
    let parent = path.parent().unwrap().to_path_buf();
    std::fs::create_dir_all(&parent).unwrap();
    match kind {
        // Same size, other bytes, same mtime: only the content tells.
        0 if is_file => {
            let before = std::fs::metadata(&path).unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            if let Some(byte) = bytes.first_mut() {
                *byte = b'A' + u8::try_from(random.below(26)).unwrap();
            }
            std::fs::write(&path, bytes).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(before.modified().unwrap()).unwrap();
        }
        1 => {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, format!("{}\n", random.number())).unwrap();
        }
        2 => drop(std::fs::remove_file(&path)),
        3 if is_file => {
            context.mode(name, random.pick(&[0o644, 0o600, 0o755, 0o4755]));
        }
        4 => {
            let _ = std::fs::remove_file(&path);
            // What a wildcard finds must lead somewhere, with or without a cache.
            let target = match name.ends_with(".conf") {
                true => "w.conf",
                false => random.pick(&["a", "b", "/nowhere", "../x.conf"]),
            };
            context.link(name, target);
        }
        5 if is_file => {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(random.below(1 << 20)))
                .unwrap();
        }
        6 => drop(std::fs::create_dir(
            context.at(&format!("lib/empty{}", random.below(3))),
        )),
        7 => drop(std::fs::remove_dir(
            context.at(&format!("lib/empty{}", random.below(3))),
        )),
        // Two files change places: names, sizes and times are the same set as before.
        8 => {
            let (a, b, t) = (
                context.at("lib/a"),
                context.at("lib/b"),
                context.at("lib/t"),
            );
            if std::fs::rename(&a, &t).is_ok() {
                let _ = std::fs::rename(&b, &a);
                std::fs::rename(&t, &b).unwrap();
            }
        }
        9 => {
            let _ = std::fs::remove_file(&path);
            let other = context.at(random.pick(&NAMES));
            // A link that has a second name may lead nowhere from there.
            let is_link = other.is_symlink() && name.ends_with(".conf");
            if is_link || std::fs::hard_link(&other, &path).is_err() {
                std::fs::write(&path, "").unwrap();
            }
        }
        _ => {
            context.dockerfile(
                &DOCKERFILE.replace("cat /app", &format!(": {}; cat /app", random.below(3))),
            );
        }
    }
    format!("{kind} on {name}")
}

/// Does `work` while somebody changes a file and changes it back all the time.
fn toggled<T>(context: &Context, work: impl FnOnce() -> T) -> T {
    use std::os::unix::fs::FileExt as _;
    let is_over = AtomicBool::new(false);
    let path = context.at("lib/fixed");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for bytes in [b"2", b"1"] {
                    file.write_all_at(bytes, 0).unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn the_cache_changes_no_result() {
    let (with, without) = (Lab::new(), Lab::new());
    let context = with.context("context", &[]);
    start(&context);
    let mut random = Random::new();
    let mut edits = Vec::new();
    for _ in 0..60 {
        // The copies between stages must find something.
        context
            .write("lib/fixed", "1")
            .write("w.conf", "1")
            .write("app/one/fixed", "1");
        let build = |lab: &Lab| {
            lab.build(&context)
                .env("SOURCE_DATE_EPOCH", "1000000000")
                .tag("x")
        };
        if random.below(3) == 0 {
            // What is built meanwhile must not stay under the key of what is there now.
            let out = toggled(&context, || build(&with).output());
            if !out.succeeded() {
                out.says(&["the files of the context keep changing"]);
            }
        }
        let cached = build(&with).built();
        let clean = build(&without).arg("--no-cache").built();
        assert_eq!(
            cached.image,
            clean.image,
            "after {edits:?}\nran: {:?}",
            cached.ran()
        );
        build(&with).built().assert_all_cached();
        edits.clear();
        for _ in 0..=random.below(3) {
            edits.push(edit(&context, &mut random));
        }
    }
}

#[test]
fn same_names_sizes_and_times_but_other_bytes() {
    let lab = Lab::new();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let contexts: Vec<Context> = ["AAAA", "BBBB"]
        .iter()
        .map(|bytes| {
            let context = lab.context(
                &format!("c{bytes}"),
                &[("Dockerfile", dockerfile), ("f", bytes), ("d/g", bytes)],
            );
            for name in ["f", "d/g", "Dockerfile"] {
                let file = std::fs::File::options()
                    .write(true)
                    .open(context.at(name))
                    .unwrap();
                file.set_modified(time).unwrap();
            }
            context
        })
        .collect();
    for round in 0..50 {
        for (context, bytes) in contexts.iter().zip(["AAAA", "BBBB"]) {
            let out = lab.path("out");
            let _ = std::fs::remove_dir_all(&out);
            lab.build(context)
                .args(["-o", &format!("type=local,dest={}", out.display())])
                .built();
            for name in ["f", "d/g"] {
                let found = std::fs::read_to_string(out.join(name)).unwrap();
                assert_eq!(found, bytes, "round {round}");
            }
        }
    }
}

#[test]
fn a_file_rewritten_in_the_same_instant_is_seen() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM scratch\nCOPY f /\n");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for round in 0..50u32 {
        let text = format!("{round:08}");
        // In place, with the mtime set back: inode, size and mtime stay as they were.
        context.write("f", &text);
        std::fs::File::options()
            .write(true)
            .open(context.at("f"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        let out = lab.path("out");
        let _ = std::fs::remove_dir_all(&out);
        lab.build(&context)
            .args(["-o", out.to_str().unwrap()])
            .built();
        assert_eq!(std::fs::read_to_string(out.join("f")).unwrap(), text);
    }
}

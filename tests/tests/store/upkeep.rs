//! The store over time: its cap, pruning, a full disk, checks, cache mounts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kiln_tests::{Context, Kiln, Lab, SmallDisk, setting, tool};

/// A config file that says this beside what the tests' own says.
fn config(lab: &Lab, text: &str) -> PathBuf {
    let path = lab.path("config.toml");
    let base = std::fs::read_to_string(setting("KILN_TEST_CONFIG")).unwrap();
    std::fs::write(&path, format!("{base}\n{text}\n")).unwrap();
    path
}

/// A base image that the disk has no room for is no fault of the step that needs it.
#[test]
fn a_base_that_does_not_fit_is_not_blamed_on_a_step() {
    let lab = Lab::new();
    let disk = SmallDisk::new(&lab);
    let context = lab.dockerfile("FROM debian:bookworm\nRUN echo never\n");
    for _ in 0..2 {
        let build = lab.kiln(["build", "--progress=plain"]).last(context.path());
        let out = build
            .env("KILN_ROOT", lab.path("small/store"))
            .output()
            .failed();
        for word in [
            "cannot bring in the files that it needs",
            "No space left on device",
        ] {
            assert!(out.err.contains(word), "{word}: {out}");
        }
        assert!(
            !out.err.contains(">>> RUN") && !out.err.contains("whole output"),
            "{out}"
        );
        // Where there was no room.
        assert!(
            out.err
                .contains(&format!("{}", lab.path("small").display())),
            "{out}"
        );
    }
    drop(disk);
}

/// Bytes on the disk below a directory.
fn used(dir: &Path, seen: &mut std::collections::HashSet<u64>) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else {
            continue;
        };
        if seen.insert(meta.ino()) {
            sum += meta.blocks() * 512;
        }
        if meta.is_dir() {
            sum += used(&entry.path(), seen);
        }
    }
    sum
}

const MIB: u64 = 1 << 20;

/// Steps of 4 MiB each.
const LARGE: &str = "FROM busybox\nARG N\nRUN : $N; head -c 4194304 /dev/urandom > /a\nRUN head -c 4194304 /dev/urandom > /b\nRUN head -c 4194304 /dev/urandom > /c\nRUN --mount=type=cache,id=large,target=/m head -c 1048576 /dev/urandom > /m/$N\nRUN head -c 4194304 /dev/urandom > /d\n";

/// Twelve builds of 16 MiB in a store that may hold 40: all pass, the last image works, and at no
/// moment is there more than the cap, the largest step, and what no build can do without.
#[test]
fn the_cap_holds_while_builds_run() {
    let lab = Lab::new();
    let config = config(&lab, "[gc]\nmax-size = \"40MB\"\nkeep-free = \"0\"");
    let context = lab.dockerfile(LARGE);
    let build = |n: u32| {
        lab.build(&context)
            .env("KILN_CONFIG", &config)
            .arg(format!("--build-arg=N={n}"))
            .tag("x")
    };
    let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(
                    used(&lab.store(), &mut Default::default()),
                    Ordering::Relaxed,
                );
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 0..12 {
                build(n).built().assert_ran(&["/a", "/b", "/c", "/m", "/d"]);
            }
        }));
        done.store(true, Ordering::Relaxed);
        ended.unwrap();
    });
    assert_eq!(
        lab.run("x", &["sh", "-c", "ls -1 /a /b /c /d | wc -l"]),
        "4"
    );
    // The database, the reserve and the folders take about 3 MiB.
    let limit = 40 * MIB + 4 * MIB + 5 * MIB;
    let most = most.load(Ordering::Relaxed);
    assert!(
        most <= limit,
        "{} KiB, and {} were allowed",
        most >> 10,
        limit >> 10
    );
    assert!(
        most > 30 * MIB,
        "the cap was never near: {} KiB",
        most >> 10
    );
    // What was built last is still known.
    build(11).built().assert_all_cached();
    lab.kiln(["fsck"]).output().ok();
}

/// A disk that others fill costs no build its cache, unless the config says so; what goes is told, and so
/// is why a step runs that had a result.
#[test]
fn a_crowded_disk_costs_no_unchanged_build_its_cache() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN head -c 2097152 /dev/urandom > /a\nRUN --mount=type=cache,target=/m date >> /m/log; cat /m/log\n",
    );
    for reserved in ["", "reserved = \"0\""] {
        let text = format!("[gc]\nkeep-free = \"100TB\"\n{reserved}");
        let config = config(&lab, &text);
        let build = || lab.build(&context).env("KILN_CONFIG", &config);
        build().tag("x").output().ok();
        let again = build().tag("x").output().ok();
        assert!(!again.err.contains("removed"), "{again}");
        kiln_tests::Built::of(&again).assert_all_cached();
    }
    let config = config(&lab, "[gc]\nmax-size = \"12MB\"\nkeep-free = \"0\"");
    let large = lab.context("large", &[]);
    large.dockerfile("FROM busybox\nARG N\nRUN : $N; head -c 4194304 /dev/urandom > /a\n");
    let build = |n: u32| {
        let build = lab
            .kiln(["build", "--progress=plain"])
            .env("KILN_CONFIG", &config);
        let arg = format!("--build-arg=N={n}");
        build.arg(arg).last(large.path()).output().ok()
    };
    let all: Vec<String> = (0..4).map(|n| build(n).err).collect();
    let told = all.iter().filter(|err| {
        err.lines()
            .any(|l| l.starts_with("removed ") && l.ends_with("the store had grown beyond 12.6MB"))
    });
    assert!(told.count() > 0, "{all:?}");
    build(0).says(&["but its result was removed for space"]);
}

/// Builds of several steps run while everything is pruned all the time.
#[test]
fn pruning_never_breaks_a_build() {
    let lab = Lab::new();
    let context = lab.context("context", &[("f", "content")]);
    context.dockerfile("FROM busybox AS a\nARG N\nRUN echo $N > /n\nCOPY f /f\nRUN --mount=type=cache,target=/c cat /n >> /c/log\nFROM busybox\nARG N\nRUN echo $N; sleep 0.05\nCOPY --from=a /n /f /\nRUN cat /n /f > /both\n");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pruner = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                let all = if rounds % 2 == 0 {
                    "--all"
                } else {
                    "--verbose"
                };
                lab.kiln(["prune", "-f", all]).output().ok();
                rounds += 1;
            }
            rounds
        });
        let builders: Vec<_> = (0..3)
            .map(|who| {
                let (lab, context) = (&lab, &context);
                scope.spawn(move || {
                    for n in 0..6 {
                        let name = format!("x{who}");
                        let arg = format!("--build-arg=N={who}-{n}");
                        lab.build(context).arg(arg).tag(&name).built();
                        let both = lab.run(&name, &["cat", "/both"]);
                        assert_eq!(both, format!("{who}-{n}\ncontent"));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = builders
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(pruner.join().unwrap() > 3);
        for end in ended {
            end.unwrap();
        }
    });
    lab.kiln(["fsck"]).output().ok();
}

/// Pruning leaves what images hold, takes the rest, and `system df` says both.
#[test]
fn prune_frees_what_df_says() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox AS side\nRUN head -c 3145728 /dev/zero > /side\nFROM busybox\nRUN --mount=from=side,target=/s --mount=type=cache,target=/c cp /s/side /c/x; head -c 2097152 /dev/urandom > /own\n");
    lab.build(&context).tag("x").built();
    let df = || -> Vec<serde_json::Value> {
        let out = lab.kiln(["system", "df", "--format", "json"]).output().ok();
        out.stdout()
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    };
    let before = df();
    let row = |rows: &[serde_json::Value], name: &str| {
        rows.iter().find(|r| r["Type"] == name).unwrap().clone()
    };
    assert_eq!(row(&before, "Build Cache")["Size"], "3.15MB");
    assert_eq!(row(&before, "Build Cache")["Reclaimable"], "3.15MB (100%)");
    assert_eq!(row(&before, "Images")["TotalCount"], "2");
    let mounts = row(&before, "Cache Mounts");
    assert!(
        mounts["Size"].as_str().unwrap().starts_with("3.1"),
        "{mounts}"
    );

    lab.kiln(["prune"])
        .stdin("n\n")
        .fails()
        .says(&["nothing is removed"]);
    let only = ["prune", "-f", "--filter", "type=exec.cachemount"];
    let out = lab.kiln(only).output().ok();
    assert!(out.stdout().starts_with("mounts: 1 (3.1"), "{out}");
    let young = lab
        .kiln(["prune", "-f", "--filter", "unused-for=24h"])
        .output()
        .ok();
    assert_eq!(young.stdout(), "Total reclaimed space: 0B");
    lab.kiln(["prune", "-f", "--filter", "type=wrong"])
        .fails()
        .says(&["there is no type `wrong`"]);
    lab.kiln(["prune", "-f"]).output().ok();
    let after = df();
    for name in ["Build Cache", "Cache Mounts", "Content"] {
        assert_eq!(row(&after, name)["Size"], "0B", "{name}");
    }
    assert_eq!(
        row(&after, "Images")["Size"],
        row(&before, "Images")["Size"]
    );
    assert_eq!(lab.run("x", &["stat", "-c", "%s", "/own"]), "2097152");
    // The layer that the image holds is still known to be that step's, until all is forgotten.
    lab.build(&context)
        .tag("x")
        .built()
        .assert_ran(&["> /side"]);
    lab.kiln(["prune", "-f", "--all"]).output().ok();
    assert_eq!(lab.build(&context).tag("x").built().ran().len(), 2);
}

/// A disk of this size, for one test.
struct Disk(PathBuf);

impl Disk {
    fn new(lab: &Lab, size: &str) -> Self {
        let path = lab.path("disk");
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        tool(
            "mount",
            [
                "-t",
                "tmpfs",
                "-o",
                &options,
                "tmpfs",
                path.to_str().unwrap(),
            ],
        );
        Self(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The upkeep of the last command may still be at work.
        for _ in 0..100 {
            let done = std::process::Command::new("umount").arg(&self.0).output();
            if done.is_ok_and(|o| o.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// The upkeep of the last command makes it.
fn wait_for(path: &Path) {
    for _ in 0..200 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("`{}` does not come", path.display());
}

/// A build that fills the disk says so, and what is left works when there is room again.
#[test]
fn a_full_disk_is_named_and_survived() {
    let lab = Lab::new();
    let disk = Disk::new(&lab, "48M");
    let on_disk = |kiln: Kiln| kiln.env("KILN_ROOT", disk.0.join("store"));
    let context = lab.context("context", &[]);
    let build = |text: &str| {
        context.dockerfile(text);
        on_disk(lab.build(&context)).tag("x")
    };
    let good = "FROM busybox\nRUN head -c 20971520 /dev/urandom > /a\nRUN echo small > /b\n";
    build(good).built();
    // A command, a copy, a cache mount, a file from the context.
    let full = [
        "FROM busybox\nRUN head -c 62914560 /dev/urandom > /a\n",
        "FROM busybox\nCOPY large /\n",
        "FROM busybox\nRUN --mount=type=cache,target=/c head -c 62914560 /dev/urandom > /c/x\n",
    ];
    context.write("large", vec![7; 60 << 20]);
    for text in full {
        let out = build(text)
            .fails()
            .says(&["no space left on", "kiln prune"]);
        assert!(out.err.contains("frees"), "{out}");
        on_disk(lab.kiln(["prune", "-f", "--filter", "type=mounts"]))
            .output()
            .ok();
    }
    for remove in [
        vec!["rmi", "x"],
        vec!["cache", "rm", "--all"],
        vec!["prune", "-f", "--all"],
    ] {
        build(good).built();
        wait_for(&disk.0.join("store/reserve"));
        // Not one byte is left.
        std::fs::write(disk.0.join("ballast"), vec![1; 64 << 20]).unwrap_err();
        on_disk(lab.kiln(remove)).output().ok();
        std::fs::remove_file(disk.0.join("ballast")).unwrap();
    }
    on_disk(lab.kiln(["fsck"])).output().ok();
    build(good).built();
    let run = on_disk(lab.kiln(["run", "--rm", "--network", "none", "x", "cat", "/b"]));
    assert_eq!(run.output().ok().stdout(), "small");
}

const DAMAGED: &str = "FROM busybox AS a\nCOPY src /src\nRUN echo made > /made\nFROM busybox\nCOPY --from=a /made /src /\nRUN --mount=type=cache,target=/c echo x >> /c/x; echo end > /end\n";

fn damaged_build(lab: &Lab, context: &Context) -> Kiln {
    lab.build(context)
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .tag("x")
}

/// Regular files of the store, with what they belong to in place of their names.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// What is done to a file.
type Damage = fn(&Path);

/// Each kind of file in the store is deleted, cut off and changed by a bit in turn. A build of the
/// same passes with the same digest, with a repair before it or without; a check after it is clean
/// but for changes inside of unpacked layers, which only the check itself can see.
#[test]
fn damage_to_any_file_is_survived() {
    let lab = Lab::new();
    let context = lab.context("context", &[("src/f", "one\n"), ("Dockerfile", DAMAGED)]);
    let expected = damaged_build(&lab, &context).built().image;
    lab.kiln(["save", "-o"])
        .arg(lab.path("x.tar"))
        .arg("x")
        .output()
        .ok();
    lab.kiln(["fsck"]).output().ok();
    lab.assert_clean();
    let (store, whole) = (lab.store(), lab.path("whole"));
    let copy = |from: &Path, to: &Path| {
        // The upkeep of the last command is over.
        lab.assert_clean();
        let _ = std::fs::remove_dir_all(to);
        tool("cp", ["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
    };
    copy(&store, &whole);
    let mut all = Vec::new();
    files(&whole, &mut all);
    // Of the many files in layers some are enough.
    let mut in_layers = 0;
    all.retain(|path| {
        let text = path.strip_prefix(&whole).unwrap().to_str().unwrap();
        in_layers += u32::from(text.starts_with("layers-v1"));
        !text.starts_with("layers-v1") || in_layers % 5 == 1
    });
    assert!(all.len() > 10, "{all:?}");
    let damages: [(&str, Damage); 3] = [
        ("deleted", |path| std::fs::remove_file(path).unwrap()),
        ("cut off", |path| {
            let size = path.metadata().unwrap().len();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(size / 2).unwrap();
        }),
        ("changed", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 4;
                std::fs::write(path, bytes).unwrap();
            }
        }),
    ];
    for path in &all {
        let name = path.strip_prefix(&whole).unwrap();
        for (what, damage) in damages {
            for repair in [false, true] {
                copy(&whole, &store);
                damage(&store.join(name));
                let case = format!("{} {what}, repair {repair}", name.display());
                if repair {
                    let check = lab.kiln(["fsck", "--repair"]).output();
                    assert!(check.code() < Some(2), "{case}: {check}");
                    let again = lab.kiln(["fsck"]).output();
                    assert_eq!(again.code(), Some(0), "{case}: {check}{again}");
                }
                let built = damaged_build(&lab, &context).built();
                assert_eq!(built.image, expected, "{case}");
                let again = damaged_build(&lab, &context).built();
                assert_eq!(again.image, expected, "{case}");
                if repair {
                    assert_eq!(
                        lab.run("x", &["cat", "/end", "/made", "/f"]),
                        "end\nmade\none",
                        "{case}"
                    );
                    lab.kiln(["fsck"]).output().ok();
                }
            }
        }
    }
}

/// What a check finds is told by part and name, and what leaves the store is never damaged.
#[test]
fn damage_is_found_and_never_passed_on() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN echo secret of the layer > /own\n");
    lab.build(&context).tag("x").built();
    let mut all = Vec::new();
    files(&lab.store().join("layers-v1"), &mut all);
    let own = all.iter().find(|p| p.ends_with("diff/own")).unwrap();
    std::fs::write(own, "SECRET of the layer\n").unwrap();
    let check = lab.kiln(["fsck"]).fails();
    assert_eq!(check.code(), Some(1));
    let lines: Vec<String> = check.stdout().lines().map(Into::into).collect();
    let [layer, image] = lines.as_slice() else {
        panic!("{check}");
    };
    assert!(
        layer.starts_with("layer ") && layer.ends_with("its files are not what was written"),
        "{layer}"
    );
    assert!(
        image.starts_with("image x:latest: its layer sha256:") && image.ends_with(" is lost"),
        "{image}"
    );
    for compression in ["uncompressed", "gzip"] {
        let spec = format!(
            "type=oci,dest={},compression={compression}",
            lab.path("x.tar").display()
        );
        let out = lab.build(&context).args(["-o", &spec]).output();
        assert!(!out.succeeded(), "{out}");
        assert!(!lab.path("x.tar").exists());
    }
    let again = "the build that made it, or `kiln pull`, brings it back";
    let will = "is lost; --repair removes it; ";
    let check = check.says(&["image x:latest: its layer sha256:", will, again]);
    let repair = lab.kiln(["fsck", "--repair"]).fails();
    // The same is found either way.
    let told: Vec<&str> = repair.stdout().lines().collect();
    assert_eq!(
        told,
        [format!("{layer}; removed"), format!("{image}; removed")]
    );
    let count = |text: &str| {
        let line = text.lines().find(|line| line.contains(" things checked, "));
        line.map(str::to_owned)
    };
    assert_eq!(count(&repair.err), count(&check.err));
    repair.says(&[
        "2 wrong",
        "image x:latest is removed: its layer sha256:",
        again,
    ]);
    lab.kiln(["fsck"]).output().ok();
    let built = lab.build(&context).tag("x").built();
    built.assert_ran(&["RUN"]);
    assert_eq!(lab.run("x", &["cat", "/own"]), "secret of the layer");

    // A blob as it was pulled.
    let mut blobs = Vec::new();
    files(&lab.store().join("content-v1/sha256"), &mut blobs);
    let large = blobs
        .iter()
        .max_by_key(|p| p.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(large).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(large, bytes).unwrap();
    let save = lab
        .kiln(["save", "-o"])
        .arg(lab.path("busybox.tar"))
        .arg("busybox");
    save.fails();
    assert!(!lab.path("busybox.tar").exists());
    let check = lab.kiln(["fsck", "--repair"]).fails();
    assert!(
        check.stdout().contains("its content has another digest"),
        "{check}"
    );
    lab.kiln(["pull", "busybox"]).output().ok();
    lab.kiln(["fsck"]).output().ok();
}

/// An image of a registry stays: what it lost comes again.
#[test]
fn what_a_pulled_image_lost_is_told_and_fetched_again() {
    let lab = Lab::new();
    lab.kiln(["pull", "busybox"]).output().ok();
    let mut all = Vec::new();
    files(&lab.store().join("content-v1/sha256"), &mut all);
    let layer = all.iter().max_by_key(|p| p.metadata().unwrap().len());
    std::fs::write(layer.unwrap(), "damaged").unwrap();
    for entry in std::fs::read_dir(lab.store().join("layers-v1")).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    let told = [
        "image busybox:latest: its layer sha256:",
        "is fetched again",
    ];
    lab.kiln(["fsck"]).fails().says(&told);
    let repair = lab.kiln(["fsck", "--repair"]).fails().says(&told);
    assert!(!repair.err.contains("is removed"), "{repair}");
    lab.kiln(["fsck"]).output().ok();
    assert_eq!(lab.run("busybox", &["echo", "it ran"]), "it ran");

    let config = &lab.inspect("busybox")["Id"];
    let config = config.as_str().unwrap().replace(':', "/");
    std::fs::write(lab.store().join("content-v1").join(config), "damaged").unwrap();
    let gone = "image busybox:latest is removed: its config is lost; ";
    lab.kiln(["fsck", "--repair"]).fails().says(&[gone]);
    lab.kiln(["fsck"]).output().ok();
    lab.kiln(["run", "--pull", "never", "busybox"]).fails();
    lab.kiln(["run", "busybox", "true"]).output().ok();
}

/// Cache mounts are listed, measured, moved between stores and removed.
#[test]
fn cache_mounts_can_be_handled() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nARG N\nRUN --mount=type=cache,id=my/cache,sharing=locked,target=/c echo $N >> /c/log; wc -l < /c/log\n",
    );
    let build = |lab: &Lab, n: u32| lab.build(&context).arg(format!("--build-arg=N={n}"));
    build(&lab, 1).built();
    let list = lab
        .kiln(["cache", "ls", "--format", "{{.ID}} {{.Sharing}} {{.InUse}}"])
        .output()
        .ok();
    assert_eq!(list.stdout(), "my/cache locked false");
    let inspect = lab.kiln(["cache", "inspect", "my/cache"]).output().ok();
    let facts: serde_json::Value = serde_json::from_str(inspect.stdout()).unwrap();
    assert!(facts[0]["Size"].as_u64().unwrap() >= 4096, "{facts}");

    let file = lab.path("mount.tar.zst");
    lab.kiln(["cache", "export", "my/cache", "-o"])
        .arg(&file)
        .output()
        .ok();
    assert_eq!(std::fs::read(&file).unwrap()[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    let other = Lab::new();
    other
        .kiln(["cache", "import", "my/cache"])
        .arg(&file)
        .output()
        .ok();
    assert!(build(&other, 2).built().log().contains('2'));

    // --no-cache keeps mounts, --no-cache-mounts empties them.
    assert!(build(&lab, 1).arg("--no-cache").built().log().contains('2'));
    assert!(
        build(&lab, 1)
            .arg("--no-cache")
            .arg("--no-cache-mounts")
            .built()
            .log()
            .contains('1')
    );
    lab.kiln(["cache", "rm", "no such"])
        .fails()
        .says(&["no cache mount `no such`"]);
    lab.kiln(["cache", "rm", "my/cache"]).output().ok();
    assert_eq!(lab.kiln(["cache", "ls", "-q"]).output().ok().stdout(), "");
    lab.kiln(["cache", "export", "my/cache", "-o"])
        .arg(&file)
        .fails();
}

/// A new cache mount is the user's whose step makes it, unless the Dockerfile says whose it is: what it
/// leaves open then is root.
#[test]
fn a_new_cache_mount_is_the_users() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox\nRUN echo worker:x:77:77::/:/bin/sh >> /etc/passwd && mkdir -m 777 /out\nUSER worker\n\
         RUN --mount=type=cache,id=a,target=/c touch /c/x && stat -c %u:%g:%a /c > /out/a\n\
         RUN --mount=type=cache,id=b,target=/c,uid=5,gid=6,mode=0700 stat -c %u:%g:%a /c > /out/b\n\
         RUN --mount=type=cache,id=c,target=/c,gid=6 stat -c %u:%g:%a /c > /out/c\n\
         USER 0\nRUN --mount=type=cache,id=d,target=/c stat -c %u:%g:%a /c > /out/d\n",
    );
    lab.build(&context).tag("x").built();
    let told = lab.run("x", &["sh", "-c", "cat /out/*"]);
    assert_eq!(told, "77:77:755\n5:6:700\n0:6:755\n0:0:755");
}

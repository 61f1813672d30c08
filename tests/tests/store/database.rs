//! A store whose database is damaged.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use kiln_tests::{Context, Lab, Random, tool};

const DATABASE: &str = "meta-v1.db";
const COPY: &str = "meta-v1.backup";

/// A store with two images and a cache mount, and a copy of it.
struct Kept {
    lab: Lab,
    context: Context,
    id: String,
    whole: PathBuf,
}

impl Kept {
    fn new() -> Self {
        let lab = Lab::new();
        let context = lab.dockerfile(
            "FROM busybox\nCOPY f /\nRUN --mount=type=cache,target=/c echo x > /c/x; echo end > /end\n",
        );
        context.write("f", "file");
        let id = lab.build(&context).tag("x").built().image;
        lab.kiln(["tag", "busybox", "base:1"]).output().ok();
        // Upkeep copies the database, and once more what it was not done with when it did so.
        lab.assert_clean();
        lab.kiln(["pull", "busybox"]).output().ok();
        lab.assert_clean();
        assert!(lab.store().join(COPY).is_file());
        let whole = lab.path("whole");
        tool(
            "cp",
            ["-a", lab.store().to_str().unwrap(), whole.to_str().unwrap()],
        );
        Self {
            lab,
            context,
            id,
            whole,
        }
    }

    fn restore(&self) {
        self.lab.assert_clean();
        let store = self.lab.store();
        std::fs::remove_dir_all(&store).unwrap();
        tool(
            "cp",
            ["-a", self.whole.to_str().unwrap(), store.to_str().unwrap()],
        );
    }

    /// Random bytes in the place of these.
    fn damage(&self, random: &mut Random, name: &str, at: u64, bytes: usize) {
        let noise: Vec<u8> = (0..bytes)
            .map(|_| random.number().to_le_bytes()[0])
            .collect();
        let file = std::fs::File::options()
            .write(true)
            .open(self.lab.store().join(name));
        file.unwrap().write_all_at(&noise, at).unwrap();
    }

    fn images(&self) -> String {
        let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
        let list = self
            .lab
            .kiln(["images", "--no-trunc", "--format", format])
            .output()
            .ok();
        list.stdout().to_owned()
    }
}

fn page_bytes(database: &Path) -> u64 {
    let mut bytes = [0; 2];
    let file = std::fs::File::open(database).unwrap();
    file.read_exact_at(&mut bytes, 16).unwrap();
    // "The Database Header" of SQLite's file format: 1 stands for 65536.
    match u16::from_be_bytes(bytes) {
        1 => 65536,
        bytes => bytes.into(),
    }
}

/// Each page is overwritten in turn: a command works or says what to do, a repair does it, and no name of
/// an image is lost.
#[test]
fn every_page_of_the_database_may_be_damaged() {
    let kept = Kept::new();
    let mut random = Random::new();
    let before = kept.images();
    for name in ["x:latest", "base:1", "busybox:latest"] {
        assert!(before.contains(name), "{before}");
    }
    let database = kept.whole.join(DATABASE);
    let page = page_bytes(&database);
    let pages = database.metadata().unwrap().len() / page;
    assert!(pages > 20, "{pages}");
    let mut is_found = 0;
    for number in 0..pages {
        kept.restore();
        kept.damage(
            &mut random,
            DATABASE,
            number * page,
            usize::try_from(page).unwrap(),
        );
        let images = kept.lab.kiln(["images"]).output();
        if !images.succeeded() {
            images.says(&["kiln fsck --repair"]);
        }
        let repair = kept.lab.kiln(["fsck", "--repair"]).output();
        assert!(repair.code() < Some(2), "page {number}: {repair}");
        is_found += u64::from(repair.code() == Some(1));
        let again = kept.lab.kiln(["fsck"]).output();
        assert_eq!(again.code(), Some(0), "page {number}: {repair}{again}");
        assert_eq!(kept.images(), before, "page {number}: {repair}");
        let run = kept
            .lab
            .kiln(["run", "--rm", "--network", "none", "x", "cat", "/f"]);
        assert_eq!(run.output().ok().stdout(), "file", "page {number}");
    }
    // Pages that nothing uses tell nobody; and where a command has opened the store anew, a repair
    // finds nothing.
    assert!(is_found > pages / 4, "{is_found} of {pages}");
    assert_eq!(
        kept.lab.build(&kept.context).tag("x").built().image,
        kept.id
    );
}

/// What is missing or empty has been there before.
#[test]
fn a_database_that_is_gone_or_empty_is_made_of_its_copy() {
    let kept = Kept::new();
    let before = kept.images();
    for what in ["gone", "empty"] {
        kept.restore();
        let database = kept.lab.store().join(DATABASE);
        std::fs::remove_file(&database).unwrap();
        if what == "empty" {
            std::fs::write(&database, "").unwrap();
        }
        assert_eq!(kept.images(), before, "{what}");
        kept.lab.kiln(["fsck"]).output().ok();
        // Whoever writes and reads at once needs that.
        let mode = std::fs::read(&database).unwrap()[18];
        assert_eq!(mode, 2, "it is in WAL mode");
    }
}

/// A build goes on while its database is replaced, and does not say that it is done.
#[test]
fn who_writes_to_a_database_that_was_put_aside_is_told() {
    let kept = Kept::new();
    let slow = kept.lab.context("slow", &[]);
    slow.dockerfile("FROM busybox\nRUN echo begun; sleep 3; echo done > /done\n");
    let build = kept.lab.build(&slow).tag("slow").start();
    let logs = kept.lab.store().join("logs-v1");
    let has_begun = || {
        let builds = std::fs::read_dir(&logs).unwrap().flatten();
        let steps = builds.flat_map(|build| std::fs::read_dir(build.path()).into_iter().flatten());
        let mut texts = steps
            .flatten()
            .map(|log| std::fs::read_to_string(log.path()));
        texts.any(|text| text.is_ok_and(|text| text.contains("begun")))
    };
    while !has_begun() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    kept.damage(&mut Random::new(), DATABASE, 0, 9000);
    kept.lab.kiln(["images"]).output().ok();
    let built = build.wait();
    assert_eq!(built.code(), Some(1), "{built}");
    built.says(&["run the command again"]);
    kept.lab.build(&slow).tag("slow").built();
    assert_eq!(kept.lab.run("slow", &["cat", "/done"]), "done");
    kept.lab.kiln(["fsck"]).output().ok();
}

#[test]
fn without_a_copy_all_is_made_again() {
    let kept = Kept::new();
    let mut random = Random::new();
    for copy in ["damaged", "gone"] {
        kept.restore();
        kept.damage(&mut random, DATABASE, 0, 9000);
        match copy {
            "damaged" => kept.damage(&mut random, COPY, 0, 9000),
            _ => std::fs::remove_file(kept.lab.store().join(COPY)).unwrap(),
        }
        let repair = kept.lab.kiln(["fsck", "--repair"]).output();
        assert!(repair.code() < Some(2), "{repair}");
        kept.lab.kiln(["fsck"]).output().ok();
        let built = kept.lab.build(&kept.context).tag("x").built();
        assert_eq!(kept.lab.run("x", &["cat", "/end"]), "end");
        kept.lab.build(&kept.context).built().assert_all_cached();
        assert!(!built.image.is_empty());
    }
}

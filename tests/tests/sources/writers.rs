//! Files of a context that somebody writes to: while they are read, and through mappings.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiln_tests::{Lab, Random, tool};

/// What a build may say of a context that is never still.
const CHANGING: &str = "the files of the context keep changing";

#[test]
fn what_changes_and_changes_back_is_never_taken_for_what_it_was() {
    let lab = Lab::new();
    let names: Vec<String> = (0..300).map(|n| format!("d/{n}")).collect();
    for (what, step) in [
        ("copy", "COPY d /d"),
        (
            "mount",
            "RUN --mount=type=bind,target=/m mkdir /d && for i in 1 2 3 4; do cat /m/d/* > /dev/null; done; cp /m/d/150 /d",
        ),
    ] {
        let context = lab.context(what, &[]);
        for name in &names {
            context.write(name, "A");
        }
        for round in 0..12 {
            context.dockerfile(&format!("FROM busybox\n{step}\n# {round}\n"));
            if round % 3 == 0 {
                lab.kiln(["prune", "-a", "-f"]).output().ok();
            }
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let toggler = scope.spawn(|| {
                    // In place: a file is at no moment without its byte.
                    let file = std::fs::File::options()
                        .write(true)
                        .open(context.at("d/150"))
                        .unwrap();
                    let put = |byte| {
                        std::os::unix::fs::FileExt::write_all_at(&file, byte, 0).unwrap();
                        std::thread::sleep(Duration::from_millis(2));
                    };
                    while !is_over.load(Ordering::Relaxed) {
                        put(b"B");
                        put(b"A");
                    }
                });
                let built = lab.build(&context).output();
                is_over.store(true, Ordering::Relaxed);
                toggler.join().unwrap();
                if !built.succeeded() {
                    built.says(&[CHANGING]);
                }
            });
            lab.build(&context).tag("x").built();
            assert_eq!(lab.run("x", &["cat", "/d/150"]), "A", "{what} {round}");
        }
    }
}

/// Where a context is.
struct Place {
    /// What is mounted, the last one first.
    mounts: Vec<PathBuf>,
    dir: PathBuf,
}

impl Place {
    fn new(lab: &Lab, name: &str) -> Self {
        let mut place = Self {
            mounts: Vec::new(),
            dir: lab.path(name),
        };
        let sub = |of: &str| {
            let dir = lab.path(&format!("{name}-{of}"));
            std::fs::create_dir(&dir).unwrap();
            dir
        };
        std::fs::create_dir(&place.dir).unwrap();
        match name {
            "tmpfs" => place.mount(&["-t", "tmpfs", "none"]),
            "overlay" => place.overlay(&sub("upper"), &sub("work"), &sub("lower")),
            "overlay-tmpfs" => {
                let (memory, dir) = (sub("memory"), place.dir.clone());
                place.dir = memory.clone();
                place.mount(&["-t", "tmpfs", "none"]);
                place.dir = dir;
                let [upper, work] = ["upper", "work"].map(|name| memory.join(name));
                for dir in [&upper, &work] {
                    std::fs::create_dir(dir).unwrap();
                }
                place.overlay(&upper, &work, &sub("lower"));
            }
            disk => {
                let image = lab.path(&format!("{name}.img"));
                let image = image.to_str().unwrap();
                tool("truncate", ["-s", "320M", image]);
                let force = if disk == "ext4" { "-F" } else { "-f" };
                tool(&format!("mkfs.{disk}"), ["-q", force, image]);
                place.mount(&["-o", "loop", image]);
            }
        }
        place
    }

    fn overlay(&mut self, upper: &Path, work: &Path, lower: &Path) {
        let [upper, work, lower] = [upper, work, lower].map(Path::display);
        let options = format!("upperdir={upper},workdir={work},lowerdir={lower}");
        self.mount(&["-t", "overlay", "-o", &options, "none"]);
    }

    fn mount(&mut self, arguments: &[&str]) {
        let at = self.dir.to_str().unwrap();
        tool("mount", [arguments, &[at]].concat());
        self.mounts.insert(0, self.dir.clone());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for at in &self.mounts {
            let is_done = || Command::new("umount").arg(at).status().unwrap().success();
            if !(0..100).any(|_| {
                is_done() || {
                    std::thread::sleep(Duration::from_millis(50));
                    false
                }
            }) {
                let _ = Command::new("umount").arg("-l").arg(at).status();
            }
        }
    }
}

/// A process that has mapped the file and closed it, and stores bytes at its begin.
struct Mapping(Child);

impl Mapping {
    fn of(file: &Path) -> Self {
        const SCRIPT: &str = "import mmap, sys\n\
            file = open(sys.argv[1], 'r+b')\n\
            pages = mmap.mmap(file.fileno(), 0)\n\
            file.close()\n\
            print('mapped', flush=True)\n\
            for line in sys.stdin:\n\
            \x20   pages[0:1] = line[:1].encode()\n\
            \x20   print('stored', flush=True)\n";
        let child = Command::new("python3")
            .args(["-c", SCRIPT])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut mapping = Self(child);
        mapping.heard("mapped");
        mapping
    }

    fn heard(&mut self, word: &str) {
        let mut line = String::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        // It says one line at a time, so nothing is lost with the buffer.
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word);
    }

    fn store(&mut self, byte: char) {
        writeln!(self.0.stdin.as_ref().unwrap(), "{byte}").unwrap();
        self.heard("stored");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_store_into_a_mapping_is_seen_on_every_file_system() {
    let lab = Lab::new();
    let mut random = Random::new();
    for name in ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "overlay-tmpfs"] {
        let place = Place::new(&lab, name);
        let context = lab.context(&format!("{name}/context"), &[]);
        context
            .dockerfile("FROM scratch\nCOPY f /\n")
            .write("f", "0\n");
        let file = context.at("f");
        let mut mapping = Some(Mapping::of(&file));
        let mut done = Vec::new();
        for _ in 0..20 {
            let byte = char::from(b'a' + u8::try_from(random.below(26)).unwrap());
            let action = random.pick(&["store", "store", "store", "write", "close", "sync"]);
            match action {
                "store" => (mapping.get_or_insert_with(|| Mapping::of(&file))).store(byte),
                "write" => {
                    let file = std::fs::File::options().write(true).open(&file).unwrap();
                    std::os::unix::fs::FileExt::write_all_at(&file, &[byte as u8], 0).unwrap();
                }
                "close" => mapping = None,
                _ => std::fs::File::open(&file).unwrap().sync_all().unwrap(),
            }
            done.push((action, byte));
            // Long enough that the times are not too young to be believed.
            std::thread::sleep(Duration::from_millis(random.pick(&[0, 80])));
            let out = lab.path("out");
            let _ = std::fs::remove_dir_all(&out);
            lab.build(&context)
                .args(["-o", out.to_str().unwrap()])
                .built();
            let [built, there] = [&out.join("f"), &file].map(|file| std::fs::read(file).unwrap());
            assert_eq!(built, there, "{name}: {done:?}");
        }
        drop(mapping);
        drop(place);
    }
}

//! What builds leave on remotes: on all of them, fingerprints too, and nothing that is not meant for
//! others.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::BTreeSet;
use std::path::Path;

use kiln_tests::place::{Place, blob_bytes, files_below, on_host, sharing};
use kiln_tests::{Context, Lab, Outcome};

/// A stage with a large result, of which the image has a small part.
const STAGES: &str = "FROM busybox AS build
WORKDIR /src
COPY words.txt .
RUN sort words.txt > sorted && head -c 4000000 /dev/urandom > ballast
FROM busybox
COPY --from=build /src/sorted /sorted
RUN wc -l < /sorted > /count
";

/// The same without anything that differs between two runs.
fn steady() -> String {
    STAGES.replace("/dev/urandom", "/dev/zero")
}

fn words(lab: &Lab, name: &str, dockerfile: &str) -> Context {
    lab.context(name, &[("Dockerfile", dockerfile), ("words.txt", "b\na\n")])
}

fn names(dir: &Path) -> BTreeSet<String> {
    let files = files_below(&dir.join("records-v1"));
    let names = files.iter().map(|f| f.file_name().unwrap());
    names.map(|n| n.to_string_lossy().into_owned()).collect()
}

#[test]
fn results_are_left_on_every_remote() {
    let lab = Lab::new();
    let context = words(&lab, "one", STAGES);
    let dirs = ["east", "west"].map(|name| lab.path(name));
    let to = |dir: &Path| format!("type=local,dest={},mode=max", dir.display());
    let first = on_host(&lab, "a", &context)
        .args(["--cache-to", &to(&dirs[0]), "--cache-to", &to(&dirs[1])])
        // One that is away keeps the others from nothing.
        .args(["--cache-to", "type=registry,ref=127.0.0.1:9/cache,mode=max"])
        .built();
    assert_eq!(first.shared.unwrap().0, 10, "{first:?}");
    assert_eq!(names(&dirs[0]), names(&dirs[1]));
    for (host, dir) in ["b", "c"].into_iter().zip(&dirs) {
        let from = format!("type=local,src={}", dir.display());
        let other = on_host(&lab, host, &context).args(["--cache-from", &from]);
        let other = other.built();
        assert_eq!(
            (other.counts.1, &other.image),
            (0, &first.image),
            "{other:?}"
        );
    }
    // What was found on the one is left on the other.
    let third = lab.path("south");
    let from = format!("type=local,src={}", dirs[0].display());
    let relayed = on_host(&lab, "d", &context)
        .args(["--cache-from", &from, "--cache-to", &to(&third)])
        .built();
    assert_eq!(relayed.counts.1, 0, "{relayed:?}");
    let from = format!("type=local,src={}", third.display());
    // The image's own steps: the others were not fetched.
    let last = on_host(&lab, "e", &context).args(["--cache-from", &from]);
    let last = last.built();
    for step in ["COPY --from=build", "RUN wc"] {
        assert_eq!(last.step(step).outcome, Some(Outcome::Cached), "{last:?}");
    }
}

/// What a step copies from another one's result is known to other hosts without that result, as long
/// as the remote holds the fingerprint.
#[test]
fn fingerprints_are_left_on_remotes() {
    for kept in [true, false] {
        let lab = Lab::new();
        let at = Place::Directory.at(&lab, None);
        let first = sharing(&lab, "a", &words(&lab, "one", STAGES), &at).built();
        let mut fingerprints = 0;
        for file in files_below(&lab.path("shared/records-v1")) {
            let text = std::fs::read_to_string(&file).unwrap();
            if text.contains("fingerprint") {
                fingerprints += 1;
                if !kept {
                    std::fs::remove_file(file).unwrap();
                }
            }
        }
        assert_eq!(fingerprints, 1);
        if !kept {
            // Bundles have copies.
            std::fs::remove_dir_all(lab.path("shared/bundles-v1")).unwrap();
        }
        let second = sharing(&lab, "b", &words(&lab, "two", STAGES), &at).built();
        assert_eq!((second.counts.1, &second.image), (0, &first.image));
        let bytes = blob_bytes(&lab.path("b"));
        assert_eq!(bytes < 100_000, kept, "{bytes} bytes were fetched");
        // Who had to find it out leaves it.
        let third = sharing(&lab, "c", &words(&lab, "three", STAGES), &at).built();
        assert_eq!(third.counts.1, 0);
        let bytes = blob_bytes(&lab.path("c"));
        assert!(bytes < 100_000, "{bytes} bytes were fetched");
    }
}

/// A fingerprint is found out once: the next command reads nothing of the layers again. That shows
/// when the file is changed where no build looks.
#[test]
fn fingerprints_are_kept_in_the_store() {
    let lab = Lab::new();
    let context = words(&lab, "one", STAGES);
    lab.build(&context).tag("app").built();
    let layers = files_below(&lab.store().join("layers-v1"));
    let sorted = layers.iter().find(|p| p.ends_with("diff/src/sorted"));
    std::fs::write(sorted.unwrap(), "another\n").unwrap();
    context.dockerfile(&STAGES.replace("RUN wc -l", "RUN wc -c"));
    let again = lab.build(&context).tag("app").built();
    again.assert_ran(&["RUN wc -c"]);
}

/// Both builds of a comparison run here, whatever remotes hold; the first is shared, and of the second
/// nothing is left anywhere.
#[test]
fn a_comparison_takes_nothing_from_remotes_and_leaves_one_build() {
    for (text, same) in [(steady(), true), (STAGES.to_owned(), false)] {
        let lab = Lab::new();
        let at = Place::Directory.at(&lab, None);
        let context = words(&lab, "one", &text);
        let compare = |host: &str| {
            let compare = sharing(&lab, host, &context, &at).arg("--check-reproducible");
            let out = compare.output().orderly();
            assert_eq!(out.code(), Some(i32::from(!same)), "{out}");
            kiln_tests::Built::of(&out)
        };
        let first = compare("a");
        assert_eq!(
            (first.counts.1, first.shared),
            (5, Some((5, 0))),
            "{first:?}"
        );
        let left = names(&lab.path("shared"));
        let blobs = files_below(&lab.path("shared/blobs")).len();
        assert_eq!(left.len(), 6, "{left:?}");
        // Another host runs all of it, though it could have it.
        let second = compare("b");
        assert_eq!(second.counts.1, 5, "{second:?}");
        // Where its first build made something else, that has a layer and a fingerprint.
        let more = usize::from(!same);
        assert_eq!(names(&lab.path("shared")).len(), left.len() + more);
        assert_eq!(files_below(&lab.path("shared/blobs")).len(), blobs + more);
        let image = second.image;
        let third = sharing(&lab, "c", &context, &at).built();
        assert_eq!((third.counts.1, third.image), (0, image));
        for host in ["a", "b", "c"] {
            let fsck = lab.kiln(["fsck"]).env("KILN_ROOT", lab.path(host));
            fsck.output().ok();
        }
    }
}

//! Results that hosts share through a registry, a directory or a bucket. A store of its own stands
//! for a host.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use kiln_tests::place::{Place, blob_bytes, config, key_pair, on_host, sharing};
use kiln_tests::{Context, Fault, Lab, Proxy, tool};

/// A stage with a large result, of which the image has a small part.
const STAGES: &str = "FROM busybox AS build
WORKDIR /src
COPY words.txt .
RUN sort words.txt > sorted && head -c 4000000 /dev/urandom > ballast
FROM busybox
COPY --from=build /src/sorted /sorted
RUN wc -l < /sorted > /count
CMD [\"cat\", \"/sorted\"]
";

fn words(lab: &Lab, name: &str) -> Context {
    lab.context(name, &[("Dockerfile", STAGES), ("words.txt", "b\na\n")])
}

#[test]
fn a_second_host_runs_nothing_and_fetches_only_what_its_image_has() {
    for place in Place::all() {
        let lab = Lab::new();
        let at = place.at(&lab, None);
        let first = sharing(&lab, "a", &words(&lab, "one"), &at).built();
        assert_eq!(first.counts.1, 5, "{first:?}");

        // Another directory, with another time and the same content.
        let second = sharing(&lab, "b", &words(&lab, "two"), &at).built();
        assert_eq!(second.counts.1, 0, "{second:?}");
        assert_eq!(second.image, first.image);
        let bytes = blob_bytes(&lab.path("b"));
        assert!(bytes < 100_000, "{bytes} bytes were fetched");

        let run = lab
            .kiln(["run", "--rm", "app"])
            .env("KILN_ROOT", lab.path("b"));
        assert_eq!(run.output().ok().stdout(), "a\nb");
        // What was fetched is now a result of this host too.
        let check = lab.kiln(["fsck"]).env("KILN_ROOT", lab.path("b")).output();
        check.ok();
        let top = lab.context(
            "three",
            &[
                (
                    "Dockerfile",
                    "FROM busybox\nCOPY sorted /sorted\nRUN wc -l < /sorted > /count\n",
                ),
                ("sorted", "a\nb\n"),
            ],
        );
        on_host(&lab, "b", &top)
            .built()
            .assert_ran(&["COPY sorted"]);
    }
}

#[test]
fn a_layer_that_a_registry_has_in_another_repository_is_not_sent_again() {
    let lab = Lab::new();
    let server = Place::registry();
    let place = |name: &str| {
        let address = server.address().unwrap();
        let spec = format!("type=registry,ref={address}/team/{name}");
        [spec.clone(), spec]
    };
    let context = words(&lab, "one");
    let sent = |name: &str| {
        sharing(&lab, "a", &context, &place(name))
            .built()
            .sent_bytes
    };
    let first = sent("one");
    assert!(first > 4_000_000, "{first} bytes were sent");
    assert_eq!(sent("two"), 0);
    // It is whole there.
    let other = sharing(&lab, "b", &context, &place("two")).built();
    assert_eq!(other.counts.1, 0, "{other:?}");
}

#[test]
fn results_of_a_build_that_fails_later_are_shared() {
    let lab = Lab::new();
    let at = Place::Directory.at(&lab, None);
    let context = lab.dockerfile("FROM busybox\nRUN echo costly > /x\nRUN false\n");
    sharing(&lab, "a", &context, &at).fails();
    let mended = lab.dockerfile("FROM busybox\nRUN echo costly > /x\nRUN true\n");
    let built = sharing(&lab, "b", &mended, &at).built();
    built.assert_ran(&["RUN true"]);
}

#[test]
fn the_smaller_mode_shares_the_steps_of_the_image_alone() {
    let lab = Lab::new();
    let dir = lab.path("shared");
    let to = format!("type=local,dest={}", dir.display());
    on_host(&lab, "a", &words(&lab, "one"))
        .args(["--cache-to", &to])
        .built();
    let records = tool(
        "find",
        [dir.join("records-v1").to_str().unwrap(), "-type", "f"],
    );
    assert_eq!(records.lines().count(), 2, "{records}");
}

#[test]
fn nothing_is_sent_twice() {
    for place in Place::all() {
        let lab = Lab::new();
        let at = place.at(&lab, None);
        sharing(&lab, "a", &words(&lab, "one"), &at).built();
        let again = sharing(&lab, "a", &words(&lab, "one"), &at).built();
        assert_eq!(again.counts.1, 0);
        let (sent, there) = again.shared.unwrap();
        assert_eq!((sent, there), (0, 5));
    }
}

fn faults(place: &Place, upstream: &str) {
    let text = "FROM busybox AS build
COPY words.txt /
RUN sort /words.txt > /sorted
FROM busybox
COPY --from=build /sorted /sorted
RUN wc -l < /sorted > /count
";
    let lab = Lab::new();
    let context = lab.context("c", &[("Dockerfile", text), ("words.txt", "b\na\n")]);
    let clean = on_host(&lab, "clean", &context).built().image;
    let statuses = [404, 403, 429, 500].map(Fault::Status);
    let others = [Fault::Reset, Fault::Slow, Fault::Truncated, Fault::Wrong];
    for (number, fault) in statuses.into_iter().chain(others).enumerate() {
        for nth in [1, 3] {
            let proxy = Proxy::start(upstream.to_owned(), fault, nth);
            let at = place.at(&lab, Some(&proxy.address()));
            for host in ["a", "b"] {
                let host = format!("{host}{number}-{nth}");
                let built = sharing(&lab, &host, &context, &at).built();
                assert_eq!(built.image, clean, "{fault:?} on every {nth}: {built:?}");
            }
            assert!(proxy.spoiled() > 0, "{fault:?}");
        }
    }
}

#[test]
fn a_registry_that_fails_costs_time_and_nothing_else() {
    let [place, _, _] = Place::all();
    let upstream = place.address().unwrap();
    faults(&place, &upstream);
}

#[test]
fn a_bucket_that_fails_costs_time_and_nothing_else() {
    let [_, _, place] = Place::all();
    let upstream = place.address().unwrap();
    faults(&place, &upstream);
}

#[test]
fn a_remote_that_is_not_there_is_warned_about_once() {
    let lab = Lab::new();
    let from = "type=registry,ref=127.0.0.1:9/cache";
    let built = on_host(&lab, "a", &words(&lab, "one"))
        .args([
            "--cache-from",
            from,
            "--cache-to",
            &format!("{from},mode=max"),
        ])
        .built();
    assert_eq!(built.counts.1, 5);
    let text = format!("{}{}", built.other, built.warnings.join("\n"));
    assert_eq!(text.matches("is not asked any more").count(), 1, "{text}");
}

/// One line that fits on a screen, whatever was asked of the remote, with the cause.
#[test]
fn a_warning_of_a_dead_remote_is_short() {
    let lab = Lab::new();
    let bucket = "type=s3,bucket=b,region=r,endpoint_url=http://127.0.0.1:9,access_key_id=key,\
                  secret_access_key=secret";
    for (number, from) in ["127.0.0.1:9/team/cache", bucket].into_iter().enumerate() {
        for (text, steps) in [("one", "several"), ("", "one")] {
            let context = match steps {
                "several" => words(&lab, text),
                _ => lab.dockerfile("FROM busybox\nRUN true\n"),
            };
            let host = format!("{number} {steps}");
            let build = on_host(&lab, &host, &context).args(["--cache-from", from]);
            let built = build.built();
            let text = format!("{}{}", built.other, built.warnings.join("\n"));
            let told: Vec<&str> = text.lines().filter(|l| l.contains("cache ")).collect();
            let [line] = told.as_slice() else {
                panic!("{from}: {text}");
            };
            assert!(
                line.contains("cannot be reached: Connection refused"),
                "{line}"
            );
            assert!(line.len() < 150, "{line}");
        }
    }
}

/// A layer that the remote lost after its record was found.
#[test]
fn a_layer_that_is_gone_is_made_again() {
    for damage in ["remove", "damage"] {
        let lab = Lab::new();
        let at = Place::Directory.at(&lab, None);
        let first = sharing(&lab, "a", &words(&lab, "one"), &at).built();
        let blobs = lab.path("shared/blobs/sha256");
        for blob in std::fs::read_dir(blobs).unwrap() {
            let path = blob.unwrap().path();
            let length = path.metadata().unwrap().len();
            match damage {
                "remove" => std::fs::remove_file(path).unwrap(),
                _ => std::fs::write(path, vec![7; usize::try_from(length).unwrap()]).unwrap(),
            }
        }
        let second = sharing(&lab, "b", &words(&lab, "one"), &at).built();
        assert!(second.counts.1 > 0, "{damage}: {second:?}");
        let out = lab
            .kiln(["run", "--rm", "app"])
            .env("KILN_ROOT", lab.path("b"))
            .output();
        assert_eq!(out.ok().stdout(), "a\nb", "{damage}");
        drop(first);
    }
}

#[test]
fn records_are_believed_from_writers_that_are_accepted() {
    let lab = Lab::new();
    let dir = lab.path("shared").display().to_string();
    let remotes =
        format!("from = [\"type=local,src={dir}\"]\nto = [\"type=local,dest={dir},mode=max\"]\n");
    let [good, good_public] = key_pair(&lab, "good");
    let [bad, _] = key_pair(&lab, "bad");
    let accepting = config(
        &lab,
        "accepting.toml",
        &format!("{remotes}read-only = true\naccept-keys = [\"{good_public}\"]"),
    );
    let context = words(&lab, "one");
    for (number, (writer, ran)) in [
        (remotes.clone(), 5),
        (format!("{remotes}sign-key = \"{bad}\""), 5),
        (format!("{remotes}sign-key = \"{good}\""), 0),
    ]
    .into_iter()
    .enumerate()
    {
        let _ = std::fs::remove_dir_all(&dir);
        let writing = config(&lab, "writing.toml", &writer);
        let first = on_host(&lab, &format!("w{number}"), &context)
            .env("KILN_CONFIG", &writing)
            .built();
        assert_eq!(first.counts.1, 5);
        let second = on_host(&lab, &format!("r{number}"), &context)
            .env("KILN_CONFIG", &accepting)
            .built();
        assert_eq!(second.counts.1, ran, "{writer}: {second:?}");
    }
}

#[test]
fn a_namespace_keeps_results_to_itself() {
    let lab = Lab::new();
    let dir = lab.path("shared").display().to_string();
    let remotes =
        format!("from = [\"type=local,src={dir}\"]\nto = [\"type=local,dest={dir},mode=max\"]\n");
    let context = words(&lab, "one");
    for (host, namespace, ran) in [("a", "one", 5), ("b", "two", 5), ("c", "one", 0)] {
        let file = config(
            &lab,
            "ns.toml",
            &format!("{remotes}namespace = \"{namespace}\""),
        );
        let built = on_host(&lab, host, &context)
            .env("KILN_CONFIG", file)
            .built();
        assert_eq!(built.counts.1, ran, "{host} {namespace}");
    }
}

#[test]
fn a_host_that_is_read_only_writes_nothing() {
    let lab = Lab::new();
    let dir = lab.path("shared");
    let file = config(
        &lab,
        "ro.toml",
        &format!(
            "to = [\"type=local,dest={},mode=max\"]\nread-only = true",
            dir.display()
        ),
    );
    on_host(&lab, "a", &words(&lab, "one"))
        .env("KILN_CONFIG", &file)
        .built();
    assert!(!dir.exists());
    let refused = on_host(&lab, "a", &words(&lab, "one")).env("KILN_CONFIG", &file);
    let refused = refused
        .args(["--cache-to", &format!("type=local,dest={}", dir.display())])
        .fails();
    assert!(refused.err.contains("set to read-only"), "{refused}");
}

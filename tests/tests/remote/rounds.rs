//! How often a build waits for a remote that is far away, and what it believes of what it was told ahead.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::Path;

use kiln_tests::place::{Place, config, files_below, key_pair, on_host, sharing};
use kiln_tests::{Built, Context, Lab, Rounds};
use serde_json::Value;

/// Steps on top of each other, and some of another stage that one copies from.
const STEPS: usize = 30;

/// How often a build of steps that are all cached may wait for the remote.
const MOST: usize = 8;

fn many_steps(lab: &Lab) -> Context {
    many_steps_with(lab, "")
}

fn many_steps_with(lab: &Lab, last: &str) -> Context {
    let steps = |from: usize, to: usize| -> String {
        (from..to)
            .map(|n| format!("RUN echo {n} > /{n}\n"))
            .collect()
    };
    let text = format!(
        "FROM busybox AS build\n{}FROM busybox\nCOPY --from=build /3 /from\n{}{last}",
        steps(0, 8),
        steps(8, STEPS - 1)
    );
    lab.dockerfile(&text)
}

/// The build of a host that only reads from a place.
fn reading(lab: &Lab, host: &str, context: &Context, from: &str) -> Built {
    on_host(lab, host, context)
        .args(["--cache-from", from])
        .built()
}

#[test]
fn cached_steps_wait_for_a_remote_a_few_times_in_all() {
    for place in Place::all() {
        let Some(upstream) = place.address() else {
            continue;
        };
        let lab = Lab::new();
        let context = many_steps(&lab);
        let first = sharing(&lab, "a", &context, &place.specs(&lab, None)).built();
        let rounds = Rounds::start(upstream);
        let [from, to] = place.specs(&lab, Some(&rounds.address()));
        let second = reading(&lab, "b", &context, &from);
        assert_eq!((second.counts.1, &second.image), (0, &first.image));
        let waited = rounds.take();
        assert!(waited.len() <= MOST, "{place:?}: {waited:#?}");
        // No question for a single record was needed.
        let questions: usize = waited.iter().map(Vec::len).sum();
        assert!(questions <= STEPS + 15, "{place:?}: {waited:#?}");

        // Whoever has all of it asks whether the remote has it, and writes nothing.
        let again = sharing(&lab, "a", &context, &[from.clone(), to]).built();
        assert_eq!(again.shared, Some((0, STEPS as u64)), "{again:?}");
        let waited = rounds.take();
        assert!(waited.len() <= 2, "{place:?}: {waited:#?}");
        let writes = |line: &String| ["PUT", "POST", "PATCH"].iter().any(|m| line.starts_with(m));
        assert!(!waited.iter().flatten().any(writes), "{waited:#?}");

        // What has changed is at the end: the steps before it are foretold.
        let changed = many_steps_with(&lab, "RUN echo more > /more\n");
        let third = reading(&lab, "c", &changed, &from);
        assert_eq!(third.counts.1, 1, "{third:?}");
        let waited = rounds.take();
        assert!(waited.len() <= 2 * STEPS / 3, "{place:?}: {waited:#?}");
    }
}

#[test]
fn steps_of_a_first_build_do_not_ask_one_after_another() {
    for place in Place::all() {
        let Some(upstream) = place.address() else {
            continue;
        };
        let lab = Lab::new();
        let rounds = Rounds::start(upstream);
        let [from, _] = place.specs(&lab, Some(&rounds.address()));
        let from = format!("{from},single-flight=false");
        let built = reading(&lab, "a", &many_steps(&lab), &from);
        assert_eq!(built.counts.1, STEPS as u64);
        let waited = rounds.take();
        // A list counts for a few seconds.
        assert!(waited.len() <= MOST, "{place:?}: {waited:#?}");
    }
}

/// Changes the bundles in the directory of a lab; gives how many there are.
fn edit_bundles(dir: &Path, edit: impl Fn(&mut Value)) -> usize {
    let files = files_below(&dir.join("bundles-v1"));
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let mut bundle: Value = serde_json::from_str(&text).unwrap();
        edit(&mut bundle);
        std::fs::write(file, bundle.to_string()).unwrap();
    }
    files.len()
}

/// Whatever is in a bundle, a build finds what it would find without, and writes it over if it may.
#[test]
fn nothing_is_believed_that_the_keys_do_not_confirm() {
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 7] = [
        ("another version", |bundle| bundle["version"] = 2.into()),
        ("no bundle", |bundle| *bundle = "{".into()),
        ("no copies", |bundle| {
            bundle["copies"] = Value::Array(vec![]);
        }),
        ("records that are none", |bundle| {
            for copy in bundle["copies"].as_array_mut().unwrap() {
                copy[1]["record"] = "{".into();
            }
        }),
        ("records of other names", |bundle| {
            let copies = bundle["copies"].as_array_mut().unwrap();
            let first = copies[0][1].clone();
            for copy in copies {
                copy[1] = first.clone();
            }
        }),
        ("malformed names", |bundle| {
            for copy in bundle["copies"].as_array_mut().unwrap() {
                copy[0] = "../../x".into();
            }
        }),
        ("too large", |bundle| {
            let copies = bundle["copies"].as_array_mut().unwrap();
            let long = "x".repeat(100_000);
            copies[0][1]["record"] = long.into();
        }),
    ];
    let lab = Lab::new();
    let (at, context) = (Place::Directory.at(&lab, None), many_steps(&lab));
    let first = sharing(&lab, "a", &context, &at).built();
    for (number, (case, edit)) in edits.into_iter().enumerate() {
        assert!(edit_bundles(&lab.path("shared"), edit) > 0, "{case}");
        let host = format!("host{number}");
        let built = sharing(&lab, &host, &context, &at).built();
        assert_eq!(
            (built.counts.1, &built.image),
            (0, &first.image),
            "{case}: {built:?}"
        );
        // It has the copies again.
        let mut whole = 0;
        for file in files_below(&lab.path("shared/bundles-v1")) {
            let bundle: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            whole += bundle["copies"].as_array().unwrap().len();
        }
        assert!(whole > STEPS, "{case}: {whole}");
    }
}

/// Each copy is sealed as the record is: who writes a bundle can have nothing believed that is not.
#[test]
fn copies_of_writers_that_are_not_accepted_are_not_believed() {
    let lab = Lab::new();
    let dir = lab.path("shared");
    let remotes = format!(
        "from = [\"type=local,src={0}\"]\nto = [\"type=local,dest={0},mode=max\"]\n",
        dir.display()
    );
    let [good, good_public] = key_pair(&lab, "good");
    let [bad, _] = key_pair(&lab, "bad");
    let signing = |key: &str| format!("{remotes}sign-key = \"{key}\"");
    let accepting = format!("{}\naccept-keys = [\"{good_public}\"]", signing(&good));
    let context = many_steps(&lab);
    let build = |host: &str, settings: &str| {
        let file = config(&lab, "signing.toml", settings);
        let build = on_host(&lab, host, &context).env("KILN_CONFIG", &file);
        build.built()
    };
    // A host that believes everybody finds what it can; one that does not runs everything.
    assert_eq!(build("a", &signing(&bad)).counts.1, STEPS as u64);
    assert_eq!(build("b", &signing(&bad)).counts.1, 0);
    let own = build("c", &accepting);
    assert_eq!(own.counts.1, STEPS as u64, "{own:?}");
    // What it has written takes the place of the others' in bundles, too.
    let single = dir.join("records-v1");
    std::fs::rename(&single, dir.join("away")).unwrap();
    let friend = build("d", &accepting);
    assert_eq!(friend.counts.1, 0, "{friend:?}");
}

/// A bundle may outlive what it tells of.
#[test]
fn a_layer_that_is_gone_is_made_again_whatever_a_bundle_says() {
    for place in Place::all() {
        let lab = Lab::new();
        let (at, context) = (place.at(&lab, None), many_steps(&lab));
        let first = sharing(&lab, "a", &context, &at).built();
        assert!(place.damage(&lab, kiln_tests::place::Damage::Other) > 0);
        let second = sharing(&lab, "b", &context, &at).built();
        assert_eq!(second.image, first.image, "{place:?}");
        assert!(second.counts.1 > 0, "{place:?}: {second:?}");
        let third = sharing(&lab, "c", &context, &at).built();
        assert_eq!(
            (third.counts.1, &third.image),
            (0, &first.image),
            "{place:?}: {third:?}"
        );
    }
}

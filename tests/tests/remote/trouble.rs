//! Remotes that hold what is wrong, and builds that have better things to do than to wait for them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::{Path, PathBuf};

use kiln_tests::place::{Damage, Place, files_below, on_host, sharing};
use kiln_tests::{Built, Context, Fault, Lab, Proxy, SmallDisk, Tarball, tool};

/// Steps that make the same bytes wherever they run.
const STEADY: &str = "FROM busybox AS build
COPY words.txt /
RUN sort /words.txt > /sorted
FROM busybox
COPY --from=build /sorted /sorted
RUN wc -l < /sorted > /count
";

/// How many of them are steps.
const STEPS: u64 = 4;

fn steady(lab: &Lab) -> Context {
    lab.context("steady", &[("Dockerfile", STEADY), ("words.txt", "b\na\n")])
}

#[test]
fn a_layer_that_is_wrong_on_a_remote_is_written_anew() {
    for damage in [Damage::Other, Damage::Cut] {
        for place in Place::all() {
            let lab = Lab::new();
            let (at, context) = (place.at(&lab, None), steady(&lab));
            let case = format!("{damage:?} {place:?}");
            let first = sharing(&lab, "a", &context, &at).built();
            assert!(place.damage(&lab, damage) > 0, "{case}");
            let second = sharing(&lab, "b", &context, &at).built();
            assert!(second.said().contains("is made here"), "{case}: {second:?}");
            assert_eq!(second.image, first.image, "{case}");
            let third = sharing(&lab, "c", &context, &at).built();
            assert_eq!(
                (third.counts.1, &third.image),
                (0, &first.image),
                "{case}: {third:?}\nafter {second:?}"
            );
            assert_eq!(third.shared.unwrap().0, 0, "{case}: {third:?}");
        }
    }
}

/// More layers are wrong than a remote is forgiven: all of them are written anew at once.
#[test]
fn a_remote_full_of_wrong_layers_is_written_anew() {
    for place in Place::all() {
        let lab = Lab::new();
        let at = place.at(&lab, None);
        let steps = (0..7).map(|n| format!("RUN echo {n} > /{n}\n"));
        let text = format!("FROM busybox\n{}", steps.collect::<String>());
        let context = lab.dockerfile(&text);
        let first = sharing(&lab, "a", &context, &at).built();
        assert!(place.damage(&lab, Damage::Other) >= 7);
        let second = sharing(&lab, "b", &context, &at).built();
        assert_eq!(second.image, first.image);
        let third = sharing(&lab, "c", &context, &at).built();
        assert_eq!(
            (third.counts.1, &third.image),
            (0, &first.image),
            "{place:?}: {third:?}"
        );
    }
}

/// Changes the records of steps in the directory of a lab; what has copies of them goes.
fn edit_records(lab: &Lab, edit: impl Fn(&mut serde_json::Value)) -> usize {
    let mut count = 0;
    std::fs::remove_dir_all(lab.path("shared/bundles-v1")).unwrap();
    for file in files_below(&lab.path("shared/records-v1")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut sealed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let record = sealed["record"].as_str().unwrap();
        let mut record: serde_json::Value = serde_json::from_str(record).unwrap();
        if record.get("diffId").is_some() {
            edit(&mut record);
            sealed["record"] = record.to_string().into();
            std::fs::write(&file, sealed.to_string()).unwrap();
            count += 1;
        }
    }
    count
}

#[test]
fn a_record_that_lies_about_its_layer_is_found_out_and_written_anew() {
    for field in ["diffId", "tree"] {
        let lab = Lab::new();
        let (at, context) = (Place::Directory.at(&lab, None), steady(&lab));
        let first = sharing(&lab, "a", &context, &at).built();
        let count = edit_records(&lab, |record| {
            let digest = record[field].as_str().unwrap();
            let last = if digest.ends_with('0') { '1' } else { '0' };
            let lie = format!("{}{last}", &digest[..digest.len() - 1]);
            record[field] = lie.into();
        });
        assert_eq!(count as u64, STEPS);
        let second = sharing(&lab, "b", &context, &at).built();
        assert!(second.counts.1 > 0, "{field}: {second:?}");
        assert_eq!(second.image, first.image, "{field}");
        assert!(
            second.said().contains("is made here"),
            "{field}: {second:?}"
        );
        let fsck = lab.kiln(["fsck"]).env("KILN_ROOT", lab.path("b"));
        fsck.output().ok();
        let third = sharing(&lab, "c", &context, &at).built();
        assert_eq!(
            (third.counts.1, &third.image),
            (0, &first.image),
            "{field}: {third:?}"
        );
    }
}

#[test]
fn a_layer_that_this_host_cannot_make_is_made_here() {
    let long = "n".repeat(256);
    let tars = [
        ("name", Tarball::new().pax("path", &long).file("n", "")),
        (
            "attribute of a link",
            Tarball::new()
                .pax("SCHILY.xattr.user.x", "y")
                .link("l", "t"),
        ),
        (
            "capability",
            Tarball::new()
                .pax("SCHILY.xattr.security.capability", "nonsense")
                .file("f", ""),
        ),
    ];
    for (case, tar) in tars {
        let lab = Lab::new();
        let (at, context) = (Place::Directory.at(&lab, None), steady(&lab));
        let first = sharing(&lab, "a", &context, &at).built();
        let bytes = tar.bytes();
        let file = lab.path("tar");
        std::fs::write(&file, &bytes).unwrap();
        let sum = tool("sha256sum", [&file]);
        let hex = sum.split(' ').next().unwrap().to_owned();
        std::fs::rename(&file, lab.path("shared/blobs/sha256").join(&hex)).unwrap();
        edit_records(&lab, |record| {
            let digest = format!("sha256:{hex}");
            record["diffId"] = digest.clone().into();
            record["tarSize"] = bytes.len().into();
            record["blob"] = serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest,
                "size": bytes.len(),
            });
        });
        let second = sharing(&lab, "b", &context, &at).built();
        assert_eq!(second.image, first.image, "{case}: {second:?}");
        assert!(second.said().contains("is made here"), "{case}: {second:?}");
    }
}

/// A record that is no record is written over, also by whoever has the result already.
#[test]
fn records_that_cannot_be_read_are_written_over() {
    let lab = Lab::new();
    let (at, context) = (Place::Directory.at(&lab, None), steady(&lab));
    sharing(&lab, "a", &context, &at).built();
    for host in ["a", "b"] {
        for file in files_below(&lab.path("shared/records-v1")) {
            std::fs::write(file, "{").unwrap();
        }
        sharing(&lab, host, &context, &at).built();
        let other = sharing(&lab, &format!("after-{host}"), &context, &at).built();
        assert_eq!(other.counts.1, 0, "{host}: {other:?}");
    }
}

/// Key pairs, with config files of hosts that sign with the one and accept no other.
fn signing(lab: &Lab, name: &str) -> PathBuf {
    let key = lab.path(&format!("{name}.key")).display().to_string();
    tool(
        "openssl",
        ["genpkey", "-algorithm", "ed25519", "-out", &key],
    );
    config(
        lab,
        name,
        &format!("sign-key = \"{key}\"\naccept-keys = []"),
    )
}

/// A config file with what the tests' own has, and a section on caches.
fn config(lab: &Lab, name: &str, section: &str) -> PathBuf {
    let base = std::fs::read_to_string(kiln_tests::setting("KILN_TEST_CONFIG")).unwrap();
    let path = lab.path(&format!("{name}.toml"));
    std::fs::write(&path, format!("{base}\n[cache]\n{section}\n")).unwrap();
    path
}

#[test]
fn a_host_writes_over_what_it_does_not_believe() {
    for place in Place::all() {
        let lab = Lab::new();
        let (at, context) = (place.at(&lab, None), steady(&lab));
        let signed = signing(&lab, "signed");
        let build = |host: &str, config: Option<&Path>| {
            let build = sharing(&lab, host, &context, &at);
            match config {
                Some(config) => build.env("KILN_CONFIG", config).built(),
                None => build.built(),
            }
        };
        // A host that had all of it before there was a remote, and one that has nothing.
        on_host(&lab, "old", &context).built();
        for host in ["old", "new"] {
            let stranger = build(&format!("stranger-{host}"), None);
            // What accepted hosts write, all believe who accept everybody.
            let ran = if host == "old" { STEPS } else { 0 };
            assert_eq!(stranger.counts.1, ran, "{place:?} {host}: {stranger:?}");
            if host == "new" {
                // Nobody's again.
                on_host(&lab, "stranger-new", &context)
                    .arg("--no-cache")
                    .arg("--cache-to")
                    .arg(format!("{},mode=max", at[1]))
                    .built();
            }
            let own = build(host, Some(&signed));
            let ran = if host == "old" { 0 } else { STEPS };
            assert_eq!(own.counts.1, ran, "{place:?} {host}: {own:?}");
            assert_eq!(own.shared.unwrap().0, STEPS, "{place:?} {host}: {own:?}");
            let friend = build(&format!("friend-{host}"), Some(&signed));
            assert_eq!(friend.counts.1, 0, "{place:?} {host}: {friend:?}");
            // What it wrote once stays.
            let again = build(host, Some(&signed));
            assert_eq!(
                again.shared,
                Some((0, STEPS)),
                "{place:?} {host}: {again:?}"
            );
        }
    }
}

/// Whoever could not believe what it writes itself leaves alone what is there.
#[test]
fn a_host_without_a_key_takes_no_place_of_others() {
    let lab = Lab::new();
    let (at, context) = (Place::Directory.at(&lab, None), steady(&lab));
    let ours = signing(&lab, "ours");
    let distrusting = config(&lab, "distrusting", "accept-keys = []");
    let build = |host: &str, config: &Path| {
        let build = sharing(&lab, host, &context, &at);
        build.env("KILN_CONFIG", config).built()
    };
    build("a", &ours);
    let other = build("b", &distrusting);
    assert_eq!(other.counts.1, STEPS, "{other:?}");
    assert_eq!(other.shared, Some((0, STEPS)), "{other:?}");
    assert_eq!(build("c", &ours).counts.1, 0);
}

/// Each of two hosts that do not believe each other writes a result once, however often it finds it
/// gone in the same build.
#[test]
fn hosts_that_distrust_each_other_write_each_result_once() {
    let lab = Lab::new();
    let (at, context) = (Place::Directory.at(&lab, None), steady(&lab));
    let configs = ["one", "two"].map(|name| signing(&lab, name));
    for _ in 0..2 {
        let builds = [("a", &configs[0]), ("b", &configs[1])].map(|(host, config)| {
            let build = sharing(&lab, host, &context, &at);
            build.env("KILN_CONFIG", config).start()
        });
        for build in builds {
            let built = Built::of(&build.wait().ok());
            let (sent, there) = built.shared.unwrap();
            assert!(sent <= STEPS, "{sent} sent, {there} there: {built:?}");
        }
    }
}

/// A download that nobody needs any more does not keep a build that has failed; what is finished is
/// still shared.
#[test]
fn a_build_that_fails_stops_what_it_fetches() {
    let shared = "FROM busybox AS shared\nRUN head -c 100000 /dev/urandom > /x\n";
    let text = format!(
        "{shared}RUN cat /x > /y
FROM busybox AS failing
RUN echo done > /done
RUN sleep 2; false
FROM busybox
COPY --from=shared /y /
COPY --from=failing /done /
"
    );
    for place in Place::all() {
        let Some(upstream) = place.address() else {
            continue;
        };
        let lab = Lab::new();
        let first = lab.dockerfile(shared);
        sharing(&lab, "a", &first, &place.at(&lab, None)).built();
        let blob = |line: &str| line.starts_with("GET ") && line.contains("/blobs/");
        let proxy = Proxy::start_where(upstream, Fault::Held, blob);
        let [from, _] = place.at(&lab, Some(&proxy.address()));
        let to = Place::Directory.at(&lab, None);
        let failed = sharing(&lab, "b", &lab.dockerfile(&text), &[from, to[1].clone()]).fails();
        assert!(failed.err.contains("exit code: 1"), "{failed}");
        // It was on its way, and nobody waited until it would have been given up.
        assert!(proxy.spoiled() > 0, "{failed}");
        let given_up = ["is made here", "cannot fetch"];
        assert!(!given_up.iter().any(|w| failed.err.contains(w)), "{failed}");
        let mended = lab.dockerfile("FROM busybox\nRUN echo done > /done\n");
        let other = sharing(&lab, "c", &mended, &to).built();
        assert_eq!(other.counts.1, 0, "{other:?}");
    }
}

/// What is too large for the disk stays on the remote, and the step runs as if it were not there. How
/// much it writes is a secret, which no key knows of.
#[test]
fn a_layer_that_does_not_fit_is_not_brought() {
    let lab = Lab::new();
    let at = Place::Directory.at(&lab, None);
    let context = lab.dockerfile(
        "FROM busybox
RUN --mount=type=secret,id=bytes head -c $(cat /run/secrets/bytes) /dev/zero > /file
RUN ls -l /file > /list
",
    );
    let build = |host: &str, bytes: &str| {
        sharing(&lab, host, &context, &at)
            .env("BYTES", bytes)
            .args(["--secret", "id=bytes,env=BYTES"])
    };
    build("a", "100000000").built();
    let disk = SmallDisk::new(&lab);
    let small = build("small/store", "10").built();
    assert_eq!(small.counts.1, 2, "{small:?}");
    assert!(small.said().contains("the disk has less"), "{small:?}");
    drop(disk);
}

/// A server that sends a byte now and then is given up long before all would be there, however large it
/// says the layer is.
#[test]
fn a_layer_that_trickles_in_is_made_here() {
    let text = "FROM busybox\nRUN head -c 40000000 /dev/urandom > /x\n";
    let try_one = |place: &Place| {
        let Some(upstream) = place.address() else {
            return;
        };
        let lab = Lab::new();
        let context = lab.dockerfile(text);
        sharing(&lab, "a", &context, &place.at(&lab, None)).built();
        let blob = |line: &str| line.starts_with("GET ") && line.contains("/blobs/");
        let proxy = Proxy::start_where(upstream, Fault::Trickle, blob);
        let [from, _] = place.at(&lab, Some(&proxy.address()));
        let built = on_host(&lab, "b", &context)
            .args(["--cache-from", &from])
            .built();
        assert!(
            built.said().contains("100 kB came in a second"),
            "{built:?}"
        );
        assert!(built.said().contains("is made here"), "{built:?}");
        assert_eq!(built.counts.1, 1, "{built:?}");
    };
    // It takes as long as a transfer may be slow.
    let (places, try_one) = (Place::all(), &try_one);
    std::thread::scope(|all| {
        for place in &places {
            all.spawn(move || try_one(place));
        }
    });
}

/// A registry that takes next to nothing of what is sent does not hold the end of a build up.
#[test]
fn a_layer_that_is_hardly_taken_is_not_sent() {
    let (lab, place) = (Lab::new(), Place::registry());
    let text = "FROM busybox\nRUN head -c 40000000 /dev/urandom > /x\nRUN echo a > /a\n";
    let sends = |line: &str| line.starts_with("PATCH ");
    let proxy = Proxy::start_where(place.address().unwrap(), Fault::Sip, sends);
    let at = place.specs(&lab, Some(&proxy.address()));
    let context = lab.dockerfile(text);
    let built = on_host(&lab, "a", &context).args(["--cache-to", &format!("{},mode=max", at[1])]);
    let built = built.built();
    assert_eq!(built.counts.1, 2, "{built:?}");
    let told = built.said();
    let why = "cannot send a layer: it took less than 100 kB in a second";
    assert!(told.contains(why), "{told}");
    // What is small has gone.
    assert_eq!(built.shared, Some((1, 0)), "{built:?}");
}

#[test]
fn a_directory_that_is_not_there_is_told_and_not_made() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN echo x > /x\n");
    let absent = lab.path("absent");
    let source = format!("type=local,src={}", absent.display());
    for option in ["--cache-from", "--cache-mount-from"] {
        let build = lab.build(&context).args([option, &source]).output().ok();
        build.says(&[option, "there is no such directory"]);
        assert!(!absent.exists());
    }
    // What is written there is made.
    let place = format!("type=local,dest={}", absent.display());
    let both = lab.build(&context).args(["--cache-from", &source]);
    let both = both.args(["--cache-to", &place]).output().ok();
    assert!(absent.exists() && !both.err.contains("no such directory"));
}

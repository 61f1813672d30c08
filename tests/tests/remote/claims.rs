//! Claims that hosts have on steps, and who waits for them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::time::{Duration, Instant};

use kiln_tests::place::{Place, on_host};
use kiln_tests::servers::bucket_server;
use kiln_tests::{Built, Context, Fault, Kiln, Lab, Proxy, Running};
use nix::sys::signal::Signal;

/// Stages that run at the same time.
const STAGES: usize = 6;

/// The build of a host that claims its steps.
fn claiming(lab: &Lab, host: &str, context: &Context, place: &Place) -> Kiln {
    claiming_at(lab, host, context, place.specs(lab, None))
}

fn claiming_at(lab: &Lab, host: &str, context: &Context, [from, to]: [String; 2]) -> Kiln {
    on_host(lab, host, context)
        .arg("--cache-from")
        .arg(format!("{from},single-flight=true"))
        .arg("--cache-to")
        .arg(format!("{to},mode=max,single-flight=true"))
}

/// Stages that each run this command.
fn stages(lab: &Lab, command: &str) -> Context {
    let mut text = String::new();
    let mut copies = String::from("FROM busybox\n");
    for n in 0..STAGES {
        text += &format!("FROM busybox AS s{n}\nRUN touch /{n}; {command}\n");
        copies += &format!("COPY --from=s{n} /{n} /\n");
    }
    lab.dockerfile(&(text + &copies))
}

fn until_claimed(place: &Place, lab: &Lab, build: &mut Running, claims: usize) {
    let limit = Instant::now() + Duration::from_secs(60);
    while place.claims(lab) < claims {
        assert!(build.is_running() && Instant::now() < limit, "{place:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_build_that_is_interrupted_gives_its_claims_back() {
    for place in Place::all() {
        let lab = Lab::new();
        let context = stages(&lab, "sleep 600");
        // Whatever else it does at that moment.
        for _ in 0..3 {
            let mut build = claiming(&lab, "a", &context, &place).start();
            until_claimed(&place, &lab, &mut build, STAGES);
            build.signal(Signal::SIGINT);
            let out = build.wait().failed();
            assert_eq!(out.code(), Some(130), "{out}");
            assert_eq!(place.claims(&lab), 0, "{place:?}: {out}");
        }
    }
}

/// Claims of which an attempt is under way when the signal comes are given back, too.
#[test]
fn a_build_that_is_interrupted_while_it_claims_leaves_no_claim() {
    for place in Place::all() {
        let lab = Lab::new();
        let context = stages(&lab, "sleep 600");
        for claims in [1, 2] {
            let mut build = claiming(&lab, "a", &context, &place).start();
            until_claimed(&place, &lab, &mut build, claims);
            build.signal(Signal::SIGINT);
            let out = build.wait().failed();
            assert_eq!(place.claims(&lab), 0, "{place:?}: {out}");
        }
    }
}

#[test]
fn builds_that_fail_or_pass_give_their_claims_back() {
    for place in Place::all() {
        let lab = Lab::new();
        let failed = stages(&lab, "sleep 1; exit 3");
        let out = claiming(&lab, "a", &failed, &place).output().failed();
        assert!(out.err.contains("exit code: 3"), "{out}");
        assert_eq!(place.claims(&lab), 0, "{place:?}: {out}");
        let passed = stages(&lab, "sleep 1");
        claiming(&lab, "a", &passed, &place).built();
        assert_eq!(place.claims(&lab), 0, "{place:?}");
    }
}

#[test]
fn a_host_that_only_reads_waits_for_the_one_that_runs_a_step() {
    for place in Place::all() {
        let lab = Lab::new();
        let context =
            lab.dockerfile("FROM busybox\nRUN sleep 2; head -c 16 /dev/urandom | md5sum > /x\n");
        let mut writer = claiming(&lab, "a", &context, &place).start();
        until_claimed(&place, &lab, &mut writer, 1);
        let [from, _] = place.specs(&lab, None);
        let reader = on_host(&lab, "b", &context)
            .arg("--cache-from")
            .arg(format!("{from},single-flight=true"))
            .built();
        let written = Built::of(&writer.wait().ok());
        assert_eq!(
            (reader.counts.1, &reader.image),
            (0, &written.image),
            "{place:?}: {reader:?}"
        );
    }
}

/// A remote that does not answer keeps nobody for long, and a second signal ends at once what the first
/// one has not.
#[test]
fn a_build_that_cannot_give_its_claims_back_ends_all_the_same() {
    for signals in [1, 2] {
        let lab = Lab::new();
        let place = Place::Bucket(bucket_server());
        let gives_back = |line: &str| line.starts_with("DELETE ") || line.contains("?delete");
        let proxy = Proxy::start_where(place.address().unwrap(), Fault::Held, gives_back);
        let context = stages(&lab, "sleep 600");
        let at = place.specs(&lab, Some(&proxy.address()));
        let mut build = claiming_at(&lab, "a", &context, at).start();
        until_claimed(&place, &lab, &mut build, STAGES);
        build.signal(Signal::SIGINT);
        if signals == 2 {
            while proxy.spoiled() == 0 && build.is_running() {
                std::thread::sleep(Duration::from_millis(5));
            }
            build.signal(Signal::SIGINT);
        }
        let out = build.wait().failed();
        assert_eq!(out.code(), Some(130), "{out}");
        assert!(proxy.spoiled() > 0, "{out}");
        assert!(!out.err.contains("warning: cache"), "{out}");
    }
}

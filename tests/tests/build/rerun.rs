//! What runs whatever the cache holds, and what is said of steps that did not come to run.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::time::Duration;

use kiln_tests::{Built, Lab, Outcome};

#[test]
fn stages_and_steps_run_again_by_name_number_and_line() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS Base\nRUN echo 1 > /1\nRUN date > /2\nFROM busybox\nCOPY --from=base /2 /2\n\
         RUN echo 3\\\n  > /3\nCOPY --from=base /1 /1\n",
    );
    lab.build(&context).built();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--no-cache-filter", "BASE"], &["RUN echo 1", "RUN date"]),
        (&["--no-cache-filter=0"], &["RUN echo 1", "RUN date"]),
        (&["--rerun", "base:2"], &["RUN echo 1"]),
        (&["--rerun", "7"], &["RUN echo 3"]),
        (&["--rerun", "1:3,base:2"], &["RUN echo 1", "RUN echo 3"]),
        (&["--rerun", "stage-1:4"], &["COPY --from=base /1"]),
        (&["--no-cache-filter", "none"], &[]),
    ];
    for (arguments, want) in cases {
        let built = lab.build(&context).args(arguments).built();
        // `date` writes something else each time; what is after it follows.
        let ran = built.ran();
        let forced: Vec<&str> = ran
            .into_iter()
            .filter(|name| built.step(name).reason == "forced")
            .collect();
        let fits = forced.len() == want.len()
            && forced
                .iter()
                .zip(want)
                .all(|(name, part)| name.contains(part));
        assert!(fits, "{arguments:?}: {forced:?}");
    }
    let unknown = lab
        .build(&context)
        .args(["--no-cache-filter", "none"])
        .built();
    assert!(
        unknown.other.contains("there is no stage `none`"),
        "{}",
        unknown.other
    );
    for bad in ["1", "99", "base:9", "none:2"] {
        let output = lab.build(&context).args(["--rerun", bad]).fails();
        assert!(
            output.err.contains("no step of this build is at"),
            "{}",
            output.err
        );
    }
}

#[test]
fn a_result_that_is_too_old_runs_again_and_the_image_stays_if_it_is_equal() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\n");
    let first = lab.build(&context).built();
    let young = lab.build(&context).args(["--cache-ttl", "1h"]).built();
    young.assert_all_cached();
    std::thread::sleep(Duration::from_millis(20));
    let old = lab.build(&context).args(["--cache-ttl", "1ms"]).built();
    old.assert_ran(&["RUN echo 1", "RUN echo 2"]);
    assert_eq!(old.step("RUN echo 1").reason, "expired");
    assert_eq!(old.image, first.image);
    let output = lab.build(&context).args(["--cache-ttl", "soon"]).fails();
    assert!(output.err.contains("--cache-ttl `soon`"), "{}", output.err);
}

#[test]
fn what_a_failure_leaves_undone_is_not_said_to_be_cached() {
    let lab = Lab::new();
    let context = lab.dockerfile(
        "FROM busybox AS a\nRUN sleep 60\nFROM busybox AS b\nRUN sleep 0.5; exit 3\nRUN echo never\n\
         FROM busybox AS unused\nRUN echo unused\nFROM busybox\nCOPY --from=a / /\nCOPY --from=b / /\n",
    );
    let output = lab.build(&context).output().failed();
    let built = Built::of(&output);
    let outcome = |part: &str| built.step(part).outcome;
    assert_eq!(outcome("RUN sleep 60"), Some(Outcome::Cancelled));
    assert_eq!(outcome("exit 3"), Some(Outcome::Failed));
    assert_eq!(outcome("RUN echo never"), Some(Outcome::NotReached));
    assert_eq!(outcome("COPY --from=b"), Some(Outcome::NotReached));
    assert_eq!(built.skipped, ["[unused 2/2] RUN echo unused"]);
    let plain = lab.kiln(["build", "--progress=plain"]).last(context.path());
    let output = plain.output().failed();
    assert!(
        output.err.contains(
            "not built (1 cached, 0 ran, 1 failed, 1 canceled, 3 not reached, 1 skipped)"
        ),
        "{}",
        output.err
    );
}

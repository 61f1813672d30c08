//! What fuzzing found worth keeping of layers that remove things, and some at random, goes through the
//! same check. It takes root, as unpacking does.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use proptest::prelude::*;

#[path = "../../fuzz/checks/replay.rs"]
mod replay;
#[path = "../../fuzz/checks/whiteouts.rs"]
mod whiteouts;

#[test]
#[ignore = "needs root"]
fn layers_that_remove_things() {
    replay::replay("whiteouts", whiteouts::check);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "needs root"]
    fn layers_at_random(data in prop::collection::vec(any::<u8>(), 0..24)) {
        whiteouts::check(&data);
    }
}

//! What fuzzing found worth keeping goes through the same checks.

#[path = "../../fuzz/checks/dockerfile.rs"]
mod dockerfile;
#[path = "../../fuzz/checks/dockerignore.rs"]
mod dockerignore;
#[path = "../../fuzz/checks/expand.rs"]
mod expand;
#[path = "../../fuzz/checks/flags.rs"]
mod flags;
#[path = "../../fuzz/checks/replay.rs"]
mod replay;

#[test]
fn dockerfiles() {
    replay::replay("dockerfile", dockerfile::check);
}

#[test]
fn words() {
    replay::replay("expand", expand::check);
}

#[test]
fn ignore_files() {
    replay::replay("dockerignore", dockerignore::check);
}

#[test]
fn values_of_flags() {
    replay::replay("flags", flags::check);
}

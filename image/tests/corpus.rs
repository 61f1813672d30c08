//! What fuzzing found worth keeping goes through the same checks.

#[path = "../../fuzz/checks/image_json.rs"]
mod image_json;
#[path = "../../fuzz/checks/layer.rs"]
mod layer;
#[path = "../../fuzz/checks/reference.rs"]
mod reference;
#[path = "../../fuzz/checks/replay.rs"]
mod replay;
#[path = "../../fuzz/checks/sparse.rs"]
mod sparse;

#[test]
fn layers() {
    replay::replay("layer", layer::check);
}

#[test]
fn maps_of_holes() {
    replay::replay("sparse", sparse::check);
}

#[test]
fn manifests_and_configs() {
    replay::replay("image_json", image_json::check);
}

#[test]
fn references() {
    replay::replay("reference", reference::check);
}

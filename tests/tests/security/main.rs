//! What must not leave its place.

mod archives;
mod endless;
mod files;
mod mounts;
mod network;
mod outputs;
mod sandbox;
mod sources;
mod terminal;

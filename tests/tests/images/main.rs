//! Images: names, metadata, archives, registries.

mod annotations;
mod commands;
mod export;
mod found;
mod metadata;
mod prune;
mod push;

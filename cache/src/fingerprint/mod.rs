//! The identity of files by their content, computed without reading what did not change.

mod stat_cache;
mod tree;

pub use stat_cache::{FileDigest, StatCache};
pub use tree::{Hashed, Keep, Node, Owners, hash_tree, version_of};

//! What becomes of a result: an image in the store, an archive, a directory.

mod assemble;

pub use assemble::{Assembled, Assembly};

//! What becomes of a result: an image in the store, an archive, a directory.

mod archive;
mod assemble;
mod blobs;
mod files;
mod squash;

pub use archive::{ArchiveForm, ArchiveTarget, ExportImage};
pub(crate) use assemble::timestamp;
pub use assemble::{Assembled, Assembly};
pub use blobs::LayerForm;

#[cfg(test)]
mod tests;

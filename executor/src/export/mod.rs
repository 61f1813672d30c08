//! What becomes of a result: an image in the store, an archive, a directory.

mod archive;
mod assemble;
mod blobs;
mod files;
mod packing;
mod push;
mod repeated;
mod squash;

pub use archive::{ArchiveForm, ArchiveTarget, ExportImage};
pub(crate) use assemble::timestamp;
pub use assemble::{Assembled, Assembly};
pub use blobs::LayerForm;
pub(crate) use blobs::pack_with_blob;
pub use kiln_registry::Pushed;
pub use push::PushWatch;
pub use repeated::Repeated;

#[cfg(test)]
mod tests;

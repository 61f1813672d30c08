//! What becomes of a result: an image in the store, an archive, a directory.

mod archive;
mod assemble;
mod files;
mod push;
mod repeated;
mod squash;

pub use archive::{ArchiveForm, ArchiveTarget, ExportImage};
pub(crate) use assemble::timestamp;
pub use assemble::{Assembled, Assembly};
pub use kiln_cache::LayerForm;
pub use kiln_registry::Pushed;
pub use push::PushWatch;
pub use repeated::Repeated;

#[cfg(test)]
mod tests;

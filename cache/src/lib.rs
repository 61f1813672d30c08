//! The store: content, layers, records, images, cache mounts.
//!
//! What it has on the disk is drawn in `docs/design/store.md`.
//!
//! Any number of processes use one store at once. Nothing is synced while a build runs: rows
//! carry the id of the boot that wrote them until [`Maintenance::promote`] has made them durable, and
//! rows of another boot that were not promoted are dropped when the store is opened.
#![forbid(unsafe_code)]

mod backup;
mod content;
mod db;
mod downloads;
mod error;
mod explanations;
pub mod fingerprint;
mod flight;
mod fsck;
mod full_disk;
mod gc;
mod image_xattr;
mod images;
mod layer_blob;
mod layers;
mod lease;
mod maintenance;
mod mount_archive;
pub mod mount_chunks;
mod mount_sync;
mod mounts;
mod pack;
mod placement;
mod records;
mod scratch;
mod space;
mod store;
mod tree;
mod under;
mod unpack;
mod vacuum;
mod view;

pub use content::BlobWriter;
pub use db::{nanos, time};
pub use downloads::Download;
pub use error::{Error, Result, blocking, is_no_space};
pub use flight::Flight;
pub use fsck::{Fate, Finding, HurtImage, Part, Report};
pub use gc::{Cause, Class, Held, Item, Policy, Prune, Removed};
pub use image_xattr::{DEFAULT_ACL, is_acl, is_image_xattr, is_opaque};
pub use images::{ImageRow, RemovedImages, StoredImage};
pub use layer_blob::{LayerBlob, LayerForm, StoredLayer};
pub use layers::{Layer, LayerId, tree_of_image_layer};
pub use maintenance::MaintenanceTurn;
pub use mount_chunks::{MountChunk, PackedMount};
pub use mount_sync::{Idle, IdleMount, MountState};
pub use mounts::{CacheMountDir, MountRow, MountUse};
pub use pack::{Packed, pack, pack_tar, tar_entry};
pub use records::{NewRecord, StoredRecord, StoredResult};
pub use scratch::Scratch;
pub use space::{Reservation, SpaceGuard, Unmeasured};
pub use store::{Maintenance, MountStore, Records, Store};
pub use unpack::{UnpackOptions, Unpacked, unpack};
pub use view::View;

//! Safe wrappers around the Linux system calls that kiln needs.
//!
//! Every `unsafe` block of the project is in this crate, each with its reason. Nothing here knows
//! of images or of the store's layout.
#![allow(
    unsafe_code,
    reason = "this crate is where the project's unsafe code lives"
)]

pub mod caps;
pub mod cgroup;
pub mod devices;
mod error;
pub mod fdpass;
mod holes;
pub mod idmap;
pub mod landlock;
pub mod lock;
pub mod mount;
mod named_file;
mod new_file;
pub mod overlay;
mod pending_file;
pub mod process;
pub mod process_tree;
pub mod pty;
mod root_dir;
pub mod seccomp;
mod stat;
pub mod system;
pub mod writers;
pub mod xattr;

pub use error::{FsError, Result};
pub use holes::HoleReader;
pub use named_file::{Pipes, open_named, read_named, read_named_text};
pub use new_file::{Attributes, NewFile};
pub use pending_file::PendingFile;
pub use root_dir::{DirEntry, RootDir};
pub use stat::{FileKind, Stat};

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
pub mod lock;
pub mod mount;
mod new_file;
pub mod overlay;
pub mod process;
pub mod pty;
mod root_dir;
pub mod seccomp;
mod stat;
pub mod system;
pub mod writers;
pub mod xattr;

pub use error::{FsError, Result};
pub use holes::HoleReader;
pub use new_file::{Attributes, NewFile};
pub use root_dir::{DirEntry, RootDir};
pub use stat::{FileKind, Stat};

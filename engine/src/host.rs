//! What a front needs of the host: terminals, signals, files that a user names.

pub use kiln_sys::{
    FileKind, FsError, Pipes, RootDir, fdpass, process, pty, read_named, read_named_text, system,
};

use kiln_sandbox::Spawner;

use crate::error::{Error, Hint, Result};

/// Starts the helper that makes sandboxes. It is a fork of this process, which must not have threads yet.
///
/// # Errors
/// This process may not make sandboxes, or the helper cannot be started.
pub fn start_spawner() -> Result<Spawner> {
    const SYS_ADMIN: u32 = 21;
    let capable = kiln_sys::caps::effective().is_ok_and(|c| c.contains(SYS_ADMIN));
    if !capable {
        let text = "kiln needs the privilege CAP_SYS_ADMIN to make namespaces and mounts";
        return Err(Error::failed(text).with_hint(Hint::NeedsRoot));
    }
    Ok(Spawner::start()?)
}

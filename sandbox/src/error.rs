//! What can go wrong between the request for a sandbox and its first instruction.

use kiln_sys::FsError;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] FsError),
    /// The child could not set up its sandbox.
    #[error("cannot set up the sandbox: {0}")]
    Setup(String),
    /// The command does not exist in the image.
    #[error("{}", not_found(.0))]
    CommandNotFound(String),
    /// The command exists and cannot be executed.
    #[error("cannot execute `{0}`: {1}")]
    CommandNotExecutable(String, String),
    /// `USER` or `--user` names nobody.
    #[error("user `{spec}`: {why}")]
    User {
        /// The text given.
        spec: String,
        /// Why it names nobody.
        why: String,
    },
    /// The spawner process is gone.
    #[error("the process that starts sandboxes has ended")]
    SpawnerGone,
    /// A value that the runtime specification cannot express.
    #[error("cannot describe the sandbox: {0}")]
    Spec(String),
}

/// A name with a slash is not looked for in `$PATH` (exec(3)).
fn not_found(name: &str) -> String {
    if name.contains('/') {
        format!("executable `{name}` not found in the image")
    } else {
        format!("executable `{name}` not found in the image's $PATH")
    }
}

/// Result of a runtime operation.
pub type Result<T> = std::result::Result<T, Error>;

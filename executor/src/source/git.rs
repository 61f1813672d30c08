//! `ADD git://…` and git contexts.

use kiln_solver::ports::{Solved, Step};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::output::Output;

impl Engine {
    /// Checks a repository out.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn git_checkout(&self, url: &str, _keep: bool) -> Result<kiln_cache::Scratch> {
        Err(Error::Other(format!("cannot fetch {url}")))
    }

    pub(super) async fn git_source(
        &self,
        url: &str,
        _keep_git_dir: bool,
        _checksum: Option<&str>,
        _step: &Step,
    ) -> Result<Solved<Output>> {
        Err(Error::Other(format!("cannot fetch {url}")))
    }
}

//! When sources were last changed, for `SOURCE_DATE_EPOCH`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::path::{Path, PathBuf};

use kiln_image::EntryKind;
use kiln_image::layer::{LayerError, LayerReader, Limits};
use kiln_solver::Watch;
use kiln_solver::event::Events;
use kiln_solver::plan::{DOWNLOADED, SourceKind, VertexId};
use kiln_sys::RootDir;
use tokio_util::sync::CancellationToken;

use super::SourceFetcher;
use crate::error::{Error, Result, blocking};
use crate::file::open_archive;
use crate::output::Output;
use crate::settings::Changed;

impl SourceFetcher {
    /// When the content of a source was last changed; see [`Resolver::changed`]. Whoever only looks
    /// fetches nothing for it.
    ///
    /// [`Resolver::changed`]: kiln_solver::ports::Resolver::changed
    pub(crate) async fn last_change(&self, source: &SourceKind) -> Result<Option<i64>> {
        match source {
            SourceKind::Context { name } => {
                let Some(context) = self.settings.inputs.contexts.get(name) else {
                    return Ok(None);
                };
                match context.changed {
                    Changed::Unknown => Ok(None),
                    Changed::At(time) => Ok(Some(time)),
                    Changed::WithFiles => {
                        let path = context.tree.path.clone();
                        blocking(move || newest_file(&path)).await
                    }
                }
            }
            SourceKind::Image { .. } => Ok(None),
            SourceKind::Http { .. } | SourceKind::Git { .. } if !self.settings.lists_images => {
                Ok(None)
            }
            SourceKind::Http { url, checksum } => {
                let watch = Watch {
                    events: Events::none(),
                    vertex: VertexId::default(),
                    over: CancellationToken::new(),
                };
                let found = self.http_source(url, checksum.as_deref(), &watch).await?;
                let Output::Dir(dir) = &found.solved.output else {
                    return Ok(None);
                };
                let tree = self.layers.open(&found.solved.output).await?;
                let root = RootDir::open_trusted(&dir.path)?;
                // Downloads carry the time that the server gives, and that of 1970 without one.
                let (time, _) = root.lstat(Path::new(DOWNLOADED))?.mtime;
                if time != 0 {
                    return Ok(Some(time));
                }
                blocking(move || match open_archive(&tree, DOWNLOADED)? {
                    Some(archive) => newest_entry(archive),
                    None => Ok(None),
                })
                .await
            }
            SourceKind::Git { url, checksum, .. } => {
                let time = self.commit_time(url, checksum.as_deref()).await?;
                Ok(Some(time))
            }
        }
    }
}

/// The time of the newest regular file of a tar.
fn newest_entry(archive: impl std::io::Read) -> Result<Option<i64>> {
    let bad = |e: LayerError| Error::io("read archive", std::io::Error::other(e));
    // This reader keeps no more in memory than a header.
    let mut reader = LayerReader::new(archive).limits(Limits::default());
    let mut newest = None;
    while let Some(entry) = reader.next().map_err(bad)? {
        if matches!(entry.kind, EntryKind::File { .. }) {
            newest = newest.max(Some(entry.mtime.secs));
        }
    }
    Ok(newest)
}

/// The time of the newest regular file below a directory.
fn newest_file(dir: &Path) -> Result<Option<i64>> {
    let root = RootDir::open_trusted(dir)?;
    let mut newest = None;
    let mut open = vec![PathBuf::new()];
    while let Some(at) = open.pop() {
        for entry in root.read_dir(&at)? {
            let path = at.join(&entry.name);
            let st = root.lstat(&path)?;
            if st.is_dir() {
                open.push(path);
            } else if st.is_file() {
                newest = newest.max(Some(st.mtime.0));
            }
        }
    }
    Ok(newest)
}

//! Output of steps: to whoever watches, and in full to a file.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kiln_solver::event::{Event, Stream};
use kiln_solver::ports::Step;
use tokio::io::AsyncReadExt as _;

/// Where the output of a build's steps is kept: one file a step, made when it first writes.
#[derive(Clone, Debug)]
pub struct StepLogs {
    dir: PathBuf,
}

impl StepLogs {
    /// Keeps output below `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The file of a step, by the number of its vertex.
    pub fn path(&self, vertex: usize) -> PathBuf {
        self.dir.join(format!("{vertex}.log"))
    }

    pub(crate) fn for_step(&self, vertex: usize) -> StepLog {
        StepLog {
            path: self.path(vertex).into(),
            file: Arc::default(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct StepLog {
    path: Arc<Path>,
    file: Arc<Mutex<Option<std::fs::File>>>,
}

impl StepLog {
    /// A log that cannot be written must not fail the step.
    fn append(&self, bytes: &[u8]) {
        let Ok(mut file) = self.file.lock() else {
            return;
        };
        if file.is_none() {
            if let Some(dir) = self.path.parent() {
                let _ = std::fs::create_dir_all(dir);
            }
            *file = std::fs::File::create(&self.path).ok();
        }
        if let Some(file) = file.as_mut()
            && let Err(error) = file.write_all(bytes)
        {
            tracing::warn!(path = %self.path.display(), %error, "output of a step is not kept");
        }
    }
}

/// Passes on what comes out of `pipe` until it ends.
pub(super) async fn pump(pipe: OwnedFd, stream: Stream, step: &Step, log: &StepLog) {
    let mut pipe = match tokio::net::unix::pipe::Receiver::from_owned_fd(pipe) {
        Ok(pipe) => pipe,
        Err(error) => {
            tracing::warn!(%error, "output of a step cannot be read");
            return;
        }
    };
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n) = pipe.read(&mut buffer).await {
        if n == 0 {
            break;
        }
        log.append(&buffer[..n]);
        step.events.send(Event::Log {
            vertex: step.vertex,
            stream,
            bytes: buffer[..n].to_vec(),
        });
    }
}

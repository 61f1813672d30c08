//! Files with the output of steps.

mod capped_file;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kiln_solver::event::{Warning, WarningCode};
use kiln_solver::ports::Step;

use capped_file::CappedFile;

/// Where the output of a build's steps is kept: one file a step, made when it first writes.
#[derive(Clone, Debug)]
pub struct StepLogs {
    dir: PathBuf,
    /// Bytes of one step's output at most.
    limit: u64,
}

impl StepLogs {
    /// Keeps output below `dir`: of each step so many bytes, from its beginning and its end.
    pub fn new(dir: PathBuf, limit: u64) -> Self {
        Self { dir, limit }
    }

    /// The file of a step, by the number of its vertex.
    pub fn path(&self, vertex: usize) -> PathBuf {
        self.dir.join(format!("{vertex}.log"))
    }

    pub(crate) fn for_step(&self, vertex: usize) -> StepLog {
        StepLog {
            path: self.path(vertex).into(),
            limit: self.limit,
            file: Arc::default(),
            broken: Arc::default(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct StepLog {
    path: Arc<Path>,
    limit: u64,
    file: Arc<Mutex<Option<CappedFile>>>,
    /// It could not be written.
    broken: Arc<AtomicBool>,
}

impl StepLog {
    /// A log that cannot be written must not fail the step.
    pub(crate) fn append(&self, bytes: &[u8], step: &Step) {
        let Ok(mut file) = self.file.lock() else {
            return;
        };
        if file.is_none() && !self.broken.load(Ordering::Relaxed) {
            if let Some(dir) = self.path.parent() {
                let _ = std::fs::create_dir_all(dir);
            }
            *file = CappedFile::create(&self.path, self.limit).ok();
        }
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        if let Some(log) = file.as_mut()
            && let Err(error) = log.write_all(bytes)
        {
            self.warn(&error, step);
            // What is cut off is not taken for the whole, and takes no room.
            self.broken.store(true, Ordering::Relaxed);
            *file = None;
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn warn(&self, error: &std::io::Error, step: &Step) {
        let path = self.path.display();
        let text = format!("output of a step is not kept: {error} (path: {path})");
        let warning = Warning::new(WarningCode::StepOutput, text);
        step.events.warn(warning.of(step.vertex));
    }

    /// The step has ended.
    pub(crate) fn finish(&self, step: &Step) {
        let Ok(mut file) = self.file.lock() else {
            return;
        };
        if let Some(log) = file.take()
            && let Err(error) = log.finish()
        {
            self.warn(&error, step);
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

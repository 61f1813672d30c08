//! Contexts: Dockerfiles and files to copy.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The beginning of a Dockerfile on Debian.
pub(super) const DEBIAN: &str = "ARG LIBRARY\nFROM ${LIBRARY}debian:bookworm\n";
/// The beginning of a Dockerfile on busybox.
pub(super) const BUSYBOX: &str = "ARG LIBRARY\nFROM ${LIBRARY}busybox\n";

/// Files of a context in each directory of it.
const PER_DIRECTORY: usize = 100;

/// `count` steps that write a few bytes each.
pub(super) fn steps(count: usize) -> String {
    let mut text = BUSYBOX.to_owned();
    for step in 1..=count {
        // Writing to memory does not fail.
        let _ = writeln!(text, "RUN echo {step} > /step");
    }
    text
}

/// One COPY of everything and one RUN.
pub(super) fn copy() -> String {
    format!("{BUSYBOX}COPY src /src\nRUN ls /src | wc -l > /count\n")
}

/// `count` stages that take a second each, and one that has a file of each of them.
pub(super) fn stages(count: usize) -> String {
    let mut text = "ARG LIBRARY\n".to_owned();
    let mut last = "FROM scratch\n".to_owned();
    for stage in 1..=count {
        let _ = write!(
            text,
            "FROM ${{LIBRARY}}busybox AS s{stage}\nRUN sleep 1; echo {stage} > /done\n"
        );
        let _ = writeln!(last, "COPY --from=s{stage} /done /done{stage}");
    }
    text + &last
}

/// `count` files of 4 kB, 100 to a directory, no two alike.
pub(super) fn write_files(at: &Path, count: usize) -> Result<()> {
    let mut block = Block::new();
    for file in 0..count {
        let directory = at.join((file / PER_DIRECTORY).to_string());
        if file % PER_DIRECTORY == 0 {
            std::fs::create_dir_all(&directory)?;
        }
        block.write(&directory.join(format!("{file}.bin")))?;
    }
    Ok(())
}

/// Gives the file of this number, as [`write_files`] writes it, another content.
pub(super) fn change_file(at: &Path, number: usize, content: usize) -> Result<()> {
    let directory = at.join((number / PER_DIRECTORY).to_string());
    let path = directory.join(format!("{number}.bin"));
    std::fs::write(&path, format!("{content}\n")).with_context(|| path.display().to_string())
}

/// Four kilobytes that do not compress, other ones each time.
struct Block {
    state: u64,
    bytes: Vec<u8>,
}

impl Block {
    fn new() -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            bytes: vec![0; 4096],
        }
    }

    fn write(&mut self, path: &Path) -> Result<()> {
        for word in self.bytes.chunks_exact_mut(8) {
            // Marsaglia's xorshift.
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            word.copy_from_slice(&self.state.to_le_bytes());
        }
        std::fs::write(path, &self.bytes).with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerfiles_have_the_steps_they_promise() {
        assert_eq!(steps(30).matches("RUN ").count(), 30);
        let text = stages(8);
        assert_eq!(text.matches("sleep 1").count(), 8);
        assert_eq!(text.matches("COPY --from=").count(), 8);
    }
}

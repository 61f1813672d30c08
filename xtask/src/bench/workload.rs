//! What is built.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

/// What kiln must reach in one state of the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Everything is cached, or nothing is.
    pub(super) cached: bool,
    /// Kiln's time over Docker's.
    pub(super) to_docker: f64,
    /// Kiln's time over the bare command's.
    pub(super) to_bare: Option<f64>,
}

impl Limit {
    pub(super) fn state(&self) -> &'static str {
        if self.cached { "cached" } else { "no cache" }
    }
}

/// A context and what is measured with it.
pub(super) struct Workload {
    /// A directory's name.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) limits: &'static [Limit],
    /// The command of its RUN, to be run without an engine.
    pub(super) bare: Option<&'static str>,
    dockerfile: fn() -> String,
    files: usize,
}

impl Workload {
    /// Writes the context.
    pub(super) fn write(&self, context: &Path) -> Result<()> {
        std::fs::write(context.join("Dockerfile"), (self.dockerfile)())?;
        if self.files > 0 {
            write_files(&context.join("src"), self.files)?;
        }
        Ok(())
    }
}

/// One process that writes 34,000 files of 17.6 kB in 340 directories.
const WRITE: &str = "mkdir /data && cd /data && \
    mawk 'BEGIN { b = \"x\"; while (length(b) < 17600) b = b b; b = substr(b, 1, 17600); \
    for (d = 0; d < 340; d++) { system(\"mkdir \" d); \
    for (f = 0; f < 100; f++) { n = d \"/\" f; print d, f, b > n; close(n) } } }'";

const APT: &str = "apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx-light curl";

/// All of them, in the order of the table.
pub(super) fn all() -> [Workload; 5] {
    [
        Workload {
            name: "steps",
            title: "30 trivial RUN steps on busybox",
            limits: &[
                Limit {
                    cached: false,
                    to_docker: 0.07,
                    to_bare: None,
                },
                Limit {
                    cached: true,
                    to_docker: 0.06,
                    to_bare: None,
                },
            ],
            bare: None,
            dockerfile: || steps(30),
            files: 0,
        },
        Workload {
            name: "copy",
            title: "COPY of 20,000 files (80 MB) and one RUN",
            limits: &[
                Limit {
                    cached: false,
                    to_docker: 0.25,
                    to_bare: None,
                },
                Limit {
                    cached: true,
                    to_docker: 0.08,
                    to_bare: None,
                },
            ],
            bare: None,
            dockerfile: copy,
            files: 20_000,
        },
        Workload {
            name: "write",
            title: "RUN that writes 34,000 files, 600 MB",
            limits: &[Limit {
                cached: false,
                to_docker: 0.4,
                to_bare: Some(1.5),
            }],
            bare: Some(WRITE),
            dockerfile: || format!("{DEBIAN}RUN {WRITE}\n"),
            files: 0,
        },
        Workload {
            name: "apt",
            title: "apt-get install of nginx-light and curl",
            limits: &[Limit {
                cached: false,
                to_docker: 0.65,
                to_bare: Some(1.2),
            }],
            bare: Some(APT),
            dockerfile: || format!("{DEBIAN}RUN {APT}\n"),
            files: 0,
        },
        Workload {
            name: "stages",
            title: "8 stages of sleep 1",
            limits: &[Limit {
                cached: false,
                to_docker: 0.45,
                to_bare: None,
            }],
            bare: None,
            dockerfile: || stages(8),
            files: 0,
        },
    ]
}

const DEBIAN: &str = "ARG LIBRARY\nFROM ${LIBRARY}debian:bookworm\n";
const BUSYBOX: &str = "ARG LIBRARY\nFROM ${LIBRARY}busybox\n";

/// `count` steps that write a few bytes each.
pub(super) fn steps(count: usize) -> String {
    let mut text = BUSYBOX.to_owned();
    for step in 1..=count {
        let _ = writeln!(text, "RUN echo {step} > /step");
    }
    text
}

/// One COPY of everything and one RUN.
pub(super) fn copy() -> String {
    format!("{BUSYBOX}COPY src /src\nRUN ls /src | wc -l > /count\n")
}

fn stages(count: usize) -> String {
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
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut block = vec![0u8; 4096];
    for file in 0..count {
        let directory = at.join((file / 100).to_string());
        if file % 100 == 0 {
            std::fs::create_dir_all(&directory)?;
        }
        for word in block.chunks_exact_mut(8) {
            // Marsaglia's xorshift: bytes that do not compress.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        std::fs::write(directory.join(format!("{file}.bin")), &block)?;
    }
    Ok(())
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

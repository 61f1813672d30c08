//! A reader that vouches for what it passes on.

use std::io::{self, Read};

use crate::descriptor::Descriptor;
use crate::digest::{Digest, Hasher};

/// Why bytes are not the blob that they were said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// More bytes.
    #[error("blob {digest} has at least {found} bytes, not {expected}")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// The announced size.
        expected: u64,
        /// Bytes seen.
        found: u64,
    },
    /// Fewer bytes.
    #[error("blob {digest} ended after {found} of {expected} bytes")]
    TooShort {
        /// The blob.
        digest: Digest,
        /// The announced size.
        expected: u64,
        /// Bytes seen.
        found: u64,
    },
    /// Other bytes.
    #[error("blob {expected} has the digest {found}")]
    Digest {
        /// The announced digest.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
}

/// Passes a blob on and fails, at the latest in place of the last bytes, when size or digest are
/// not the expected ones. The error is [`io::ErrorKind::InvalidData`] around a [`Mismatch`].
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    seen: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Reads the blob of a descriptor.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        Self {
            inner,
            hasher: Some(Hasher::new(digest.algorithm())),
            digest,
            size,
            seen: 0,
        }
    }

    fn check_digest(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let found = hasher.finish();
        if found == self.digest {
            return Ok(());
        }
        Err(bad(Mismatch::Digest {
            expected: self.digest.clone(),
            found,
        }))
    }
}

fn bad(mismatch: Mismatch) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, mismatch)
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if space.is_empty() {
            return Ok(0);
        }
        let n = self.inner.read(space)?;
        let (digest, expected) = (self.digest.clone(), self.size);
        self.seen = self.seen.saturating_add(n as u64);
        if n == 0 && self.seen < expected {
            return Err(bad(Mismatch::TooShort {
                digest,
                expected,
                found: self.seen,
            }));
        }
        if self.seen > expected {
            return Err(bad(Mismatch::TooLong {
                digest,
                expected,
                found: self.seen,
            }));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(space.get(..n).unwrap_or_default());
        }
        if self.seen == expected {
            self.check_digest()?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_announced_bytes_pass() {
        for (announced, size, data, passes) in [
            ("hello", 5, "hello", true),
            ("", 0, "", true),
            ("hello", 5, "hellO", false),
            ("hello", 5, "hell", false),
            ("hello", 5, "hello!", false),
            ("hello", 4, "hello", false),
            ("hello", 6, "hello", false),
            ("x", 0, "", false),
        ] {
            let descriptor = Descriptor::new("m", Digest::of(announced.as_bytes()), size);
            let mut output = Vec::new();
            let result =
                VerifyingReader::new(data.as_bytes(), &descriptor).read_to_end(&mut output);
            assert_eq!(result.is_ok(), passes, "{announced} {size} {data}");
        }
        // The last bytes do not get out when they are wrong, even if nobody asks for the end.
        let descriptor = Descriptor::new("m", Digest::of(b"hello"), 5);
        let mut five = [0; 5];
        let result = VerifyingReader::new(&b"hellO"[..], &descriptor).read_exact(&mut five);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

//! The archive of a cache mount, made of its pieces as they come.

use std::io::Read;

use tokio_util::sync::CancellationToken;

/// The plain bytes of a piece, whose digest is right.
pub(super) fn plain(bytes: &[u8], length: u64) -> std::io::Result<Vec<u8>> {
    let wrong = || std::io::Error::other("a piece does not have the length that it should");
    let length = usize::try_from(length).map_err(|_| wrong())?;
    let plain = zstd::bulk::decompress(bytes, length)?;
    if plain.len() != length {
        return Err(wrong());
    }
    Ok(plain)
}

/// The archive that pieces make, which another thread gives.
pub(super) struct Pieces {
    /// Compressed bytes, plain length, and how often the piece comes.
    pub(super) from: tokio::sync::mpsc::Receiver<(Vec<u8>, u64, u64)>,
    /// Nobody wants the archive any more: one piece may come very often.
    pub(super) stop: CancellationToken,
    /// Plain bytes that are still to come.
    pub(super) left: u64,
    pub(super) plain: Vec<u8>,
    pub(super) at: usize,
    pub(super) again: u64,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.plain.len() && self.left > 0 {
            if self.stop.is_cancelled() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if self.again == 0 {
                let next = self.from.blocking_recv();
                let (bytes, length, times) = next.ok_or(std::io::ErrorKind::UnexpectedEof)?;
                self.plain = plain(&bytes, length)?;
                self.again = times;
            }
            (self.at, self.again) = (0, self.again.saturating_sub(1));
        }
        let n = out.len().min(self.plain.len() - self.at);
        out[..n].copy_from_slice(&self.plain[self.at..self.at + n]);
        self.at += n;
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_nobody_wants_ends_between_repeated_pieces() {
        let (give, from) = tokio::sync::mpsc::channel(1);
        let stop = CancellationToken::new();
        let mut pieces = Pieces {
            from,
            stop: stop.clone(),
            left: 4 * 1000,
            plain: Vec::new(),
            at: 0,
            again: 0,
        };
        let bytes = zstd::bulk::compress(&[7; 4], 3).unwrap();
        give.blocking_send((bytes, 4, 1000)).unwrap();
        // All was given: that is no reason to end.
        drop(give);
        let mut four = [0; 4];
        for _ in 0..10 {
            pieces.read_exact(&mut four).unwrap();
            assert_eq!(four, [7; 4]);
        }
        stop.cancel();
        let error = pieces.read_exact(&mut four).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    }
}

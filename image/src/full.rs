//! Reading whole buffers.

use std::io::{ErrorKind, Read};

/// Reads until `buffer` is full or the input ends; returns how many bytes came.
///
/// # Errors
/// The input cannot be read.
pub fn read_full(input: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

//! Paths inside layers.

/// The longest path or link text that is read from a tar.
pub(super) const MAX_PATH: usize = 32 << 10;

/// Brings a path from a tar into the form of [`Entry::path`](super::Entry::path): relative,
/// without empty and `.` components. The root is the empty path.
///
/// `None` when the path has a `..` component or a NUL byte, or is longer than 32 KiB.
#[must_use]
pub fn clean_path(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() > MAX_PATH || raw.contains(&0) {
        return None;
    }
    let mut clean = Vec::with_capacity(raw.len());
    for part in raw.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(part);
            }
        }
    }
    Some(clean)
}

/// Whether a path already has the form that [`clean_path`] makes.
pub(super) fn is_clean(path: &[u8]) -> bool {
    path.is_empty()
        || (path.len() <= MAX_PATH
            && !path.contains(&0)
            && path
                .split(|b| *b == b'/')
                .all(|part| !matches!(part, b"" | b"." | b"..")))
}

/// The directory (empty for the root) and the last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (
            path.get(..slash).unwrap_or_default(),
            path.get(slash + 1..).unwrap_or_default(),
        ),
        None => (&[], path),
    }
}

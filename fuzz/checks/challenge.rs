//! Any text as a `WWW-Authenticate` header.

use super::{Challenge, parse};

/// Checks what holds for any text: challenges come from it and nowhere else.
pub(crate) fn check(data: &[u8]) {
    let Ok(header) = std::str::from_utf8(data) else {
        return;
    };
    let challenges = parse(header);
    assert!(challenges.len() <= header.len());
    for challenge in challenges {
        if let Challenge::Bearer {
            realm,
            service,
            scope,
        } = challenge
        {
            let parts = [Some(realm), service, scope];
            let size: usize = parts.iter().flatten().map(String::len).sum();
            assert!(size <= 3 * header.len(), "{parts:?}");
        }
    }
}

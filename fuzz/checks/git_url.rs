//! Any text as the address of a git repository.

use super::GitUrl;

/// Checks what holds for any text: nothing reaches `git` that it would take for an option, a
/// helper program or a way out.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(url) = GitUrl::parse(text) else {
        return;
    };
    let words = [
        Some(&url.remote),
        url.reference.as_ref(),
        url.checksum.as_ref(),
        Some(&url.subdir),
    ];
    for word in words.into_iter().flatten() {
        assert!(!word.contains(|c: char| c.is_ascii_control()), "{word:?}");
    }
    // `helper::address` has git run `git-remote-helper`; further on, colons are part of a path.
    let scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let after = url.remote.trim_start_matches(scheme);
    assert!(
        !url.remote.starts_with('-') && !after.starts_with("::"),
        "{}",
        url.remote
    );
    let reference = url.reference.as_deref().unwrap_or("");
    assert!(
        !reference.starts_with('-') && !reference.contains(".."),
        "{reference}"
    );
    assert!(!url.subdir.starts_with('/'), "{}", url.subdir);
    assert!(
        url.subdir.split('/').all(|part| part != ".."),
        "{}",
        url.subdir
    );
    // What stands in the path is no login, whatever it looks like.
    let after = url.remote.split_once("://").map_or("", |(_, rest)| rest);
    let host = after.split(['/', '\\']).next().unwrap_or_default();
    let shown = format!("{host} {:?}", url.login);
    for secret in url.login.iter().flat_map(|login| &login.secrets) {
        assert!(
            secret.len() < 3 || !shown.contains(&format!(":{secret}@")),
            "{shown}"
        );
    }
}

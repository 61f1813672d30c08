//! An address as it may be shown, written down and kept.

use std::fmt;

/// An address without what is secret in it: no user and password, and no values of a query that are
/// signatures or tokens, in whose place is `…`.
///
/// Step names, histories, errors and logs hold addresses in this form only (a user's presigned
/// address would be anybody's who has the image). What it stands for cannot be fetched with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SafeUrl(String);

/// Parts of names of values that are not shown: those of presigned addresses (S3's `X-Amz-Signature`,
/// `X-Amz-Credential` and `X-Amz-Security-Token`, Google's `X-Goog-Signature`, Azure's `sig`,
/// CloudFront's `Policy` and `Key-Pair-Id`) and of what takes a token.
const SECRET_NAMES: [&str; 14] = [
    "auth",
    "code",
    "credential",
    "jwt",
    "key",
    "pass",
    "policy",
    "pwd",
    "sas",
    "secret",
    "session",
    "sig",
    "ticket",
    "token",
];

/// Names of values that are shown however long they are: those of git addresses, and versions.
const PUBLIC_NAMES: [&str; 8] = [
    "branch",
    "checksum",
    "commit",
    "ref",
    "subdir",
    "tag",
    "version",
    "versionid",
];

/// Bytes from which on a value is taken for a secret, whatever its name: no version is so long.
const LONG_VALUE: usize = 24;

/// Schemes of names that are no addresses with a host: an `@` begins a digest.
const SCHEMES_OF_IMAGES: [&str; 2] = ["docker-image", "oci-layout"];

impl SafeUrl {
    /// Of an address that a user wrote, or of a word with one in it; other words stay as they are. A
    /// fragment stays: with git it is the branch.
    #[must_use]
    pub fn of(word: &str) -> Self {
        Self(safe(word, is_secret, true))
    }

    /// Of an address that a server made up: no value of a query is shown, and no fragment.
    #[must_use]
    pub fn of_server(address: &str) -> Self {
        Self(safe(address, |_, _| true, false))
    }

    /// Of a text, word by word; between words there is one space.
    #[must_use]
    pub fn of_words(text: &str) -> String {
        let words = text.split_whitespace().map(|word| Self::of(word).0);
        words.collect::<Vec<_>>().join(" ")
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<SafeUrl> for String {
    fn from(url: SafeUrl) -> Self {
        url.0
    }
}

fn safe(word: &str, hides: impl Fn(&str, &str) -> bool, with_fragment: bool) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    if SCHEMES_OF_IMAGES.iter().any(|s| scheme.ends_with(s)) {
        return word.to_owned();
    }
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, after) = rest.split_at(host_end);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let (before_fragment, fragment) = match after.find('#') {
        Some(at) => after.split_at(at),
        None => (after, ""),
    };
    let mut text = format!("{scheme}://{host}");
    match before_fragment.split_once('?') {
        None => text.push_str(before_fragment),
        Some((path, query)) => {
            text.push_str(path);
            for (at, field) in query.split('&').enumerate() {
                text.push(if at == 0 { '?' } else { '&' });
                match field.split_once('=') {
                    Some((name, value)) if hides(name, value) => {
                        text.push_str(name);
                        text.push_str("=…");
                    }
                    // A value without a name may be a token as well.
                    None if hides("", field) => text.push('…'),
                    _ => text.push_str(field),
                }
            }
        }
    }
    if with_fragment {
        text.push_str(fragment);
    }
    text
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if PUBLIC_NAMES.contains(&&*name) {
        return false;
    }
    value.len() >= LONG_VALUE || SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_an_address_is_not_shown() {
        let token = "0123456789abcdef01234567";
        let presigned = format!(
            "https://b.example/o/a.tar?versionId=3&X-Amz-Credential=AK%2F1&X-Amz-Expires=60&X-Amz-Signature={token}"
        );
        let long = format!("https://h/x?v=1&w={token}&{token}");
        let cases = [
            ("https://u:p@h/r", "https://h/r"),
            ("https://h/r@2", "https://h/r@2"),
            ("https://u:p@h?x=a@b", "https://h?x=a@b"),
            ("ssh://git@h:22/r.git#main:dir", "ssh://h:22/r.git#main:dir"),
            ("git@h:r", "git@h:r"),
            ("http://h:1/a@b.tar", "http://h:1/a@b.tar"),
            ("[\"https://u:p@h/a?token=x\",", "[\"https://h/a?token=…"),
            (
                presigned.as_str(),
                "https://b.example/o/a.tar?versionId=3&X-Amz-Credential=…&X-Amz-Expires=60&X-Amz-Signature=…",
            ),
            (
                "https://h/x?sv=2022&sig=aB%3D#f",
                "https://h/x?sv=2022&sig=…#f",
            ),
            (long.as_str(), "https://h/x?v=1&w=…&…"),
            ("https://h/x?download", "https://h/x?download"),
            (
                "https://h/r.git?checksum=0123456789abcdef0123456789abcdef01234567",
                "https://h/r.git?checksum=0123456789abcdef0123456789abcdef01234567",
            ),
            (
                "docker-image://busybox@sha256:aa",
                "docker-image://busybox@sha256:aa",
            ),
            ("plain", "plain"),
            ("", ""),
            ("://@?&=", "://?&="),
        ];
        for (address, shown) in cases {
            assert_eq!(SafeUrl::of(address).as_str(), shown, "{address}");
        }
        for (address, shown) in [
            (
                "https://u:p@a.example/v2/x?ns=1&X-Sig=secret#secret",
                "https://a.example/v2/x?ns=…&X-Sig=…",
            ),
            ("http://a.example:5000/", "http://a.example:5000/"),
        ] {
            assert_eq!(SafeUrl::of_server(address).as_str(), shown, "{address}");
        }
        assert_eq!(
            SafeUrl::of_words("ADD  https://u:p@h/a?sig=x /x"),
            "ADD https://h/a?sig=… /x"
        );
    }
}

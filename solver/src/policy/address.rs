//! Addresses of repositories, as rules know them.

use super::GIT;

/// The address of a repository, taken apart.
pub(super) struct Address {
    /// What comes before the fragment.
    pub(super) remote: String,
    /// Host and path, whatever the protocol.
    pub(super) place: String,
    /// `#ref:directory`, or nothing.
    fragment: String,
}

impl Address {
    pub(super) fn of(url: &str) -> Self {
        let (remote, fragment) = split_fragment(url);
        let place = match remote.split_once("://") {
            Some((_, rest)) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let (host, path) = rest.split_at(end);
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                format!("{host}{path}")
            }
            // `user@host:path`
            None => {
                let rest = remote.split_once('@').map_or(remote, |(_, rest)| rest);
                rest.replacen(':', "/", 1)
            }
        };
        Self {
            remote: remote.to_owned(),
            place,
            fragment: fragment.to_owned(),
        }
    }

    /// What rules know it by, as BuildKit names it.
    pub(super) fn identifier(&self) -> String {
        format!("{GIT}{}{}", self.place, self.fragment)
    }
}

/// What comes before a fragment, and the fragment with its sign.
pub(super) fn split_fragment(text: &str) -> (&str, &str) {
    text.split_at(text.find('#').unwrap_or(text.len()))
}

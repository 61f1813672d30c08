//! Settings of the client, as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::notice::Notices;
use url::Url;

/// The base address of a mirror: scheme, host, optional port and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorUrl(Url);

impl MirrorUrl {
    /// The address; its path ends in a slash.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }
}

impl FromStr for MirrorUrl {
    type Err = String;

    /// Takes `https://host[:port][/path]`; without a scheme, `https` is meant.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let mut url = Url::parse(&full).map_err(|error| format!("mirror address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("mirror address is not http or https with a host".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("mirror address must not hold credentials".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("mirror address must not have a query or fragment".into());
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{}/", path.strip_suffix("/v2").unwrap_or(&path)));
        Ok(Self(url))
    }
}

impl fmt::Display for MirrorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Certificates for one registry, in PEM form.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate authorities to trust besides those of the system; each may hold several.
    pub authorities: Vec<Vec<u8>>,
    /// A client certificate chain with its private key.
    pub identity: Option<Vec<u8>>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("authorities", &self.authorities.len())
            .field("identity", &self.identity.as_ref().map(|_| "…"))
            .finish()
    }
}

/// How requests are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, at least one.
    pub tries: u32,
    /// The pause before the second try; it triples with every further one, and jitter is added.
    pub pause: Duration,
    /// The longest pause. A registry that asks for a longer one is not tried again.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 3,
            pause: Duration::from_millis(400),
            longest: Duration::from_secs(60),
        }
    }
}

/// Settings for all registries.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Mirrors of a registry (`docker.io`, `host:port`), in the order in which they are asked.
    pub mirrors: BTreeMap<String, Vec<MirrorUrl>>,
    /// Registries for which invalid certificates and plain HTTP will do. Loopback addresses use
    /// plain HTTP without being listed.
    pub insecure: BTreeSet<String>,
    /// Certificates by registry or mirror host (with its port).
    pub tls: BTreeMap<String, TlsConfig>,
    /// What the client calls itself.
    pub user_agent: String,
    /// How requests are repeated.
    pub retry: RetryPolicy,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may pause.
    pub read_timeout: Duration,
    /// Where goes what users should know.
    pub notices: Notices,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            insecure: BTreeSet::new(),
            tls: BTreeMap::new(),
            user_agent: concat!("kiln/", env!("CARGO_PKG_VERSION")).into(),
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_secs(60),
            notices: Notices::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_addresses() {
        for (text, url) in [
            ("mirror.example", "https://mirror.example/"),
            ("http://10.0.0.1:5000", "http://10.0.0.1:5000/"),
            ("https://m.example/hub/", "https://m.example/hub/"),
            ("https://m.example/v2/", "https://m.example/"),
        ] {
            assert_eq!(text.parse::<MirrorUrl>().unwrap().to_string(), url);
        }
        for bad in [
            "",
            "ftp://x",
            "https://u:p@x",
            "https://x/?a=b",
            "file:///etc",
            "https://",
        ] {
            assert!(bad.parse::<MirrorUrl>().is_err(), "{bad}");
        }
    }
}

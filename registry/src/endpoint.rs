//! Where a registry is reached, and which addresses it may send us to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::error::{RegistryError, redact};

/// One server: the origin of a registry or one of its mirrors.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The name under which credentials and certificates are kept.
    pub(crate) key: String,
    /// The address in front of `v2/`, with a slash at the end.
    pub(crate) base: Url,
    /// Whether plain HTTP and invalid certificates are allowed.
    pub(crate) insecure: bool,
}

impl Endpoint {
    /// An address below `v2/`. The path is made of validated names.
    pub(crate) fn url(&self, path: &str) -> Result<Url, RegistryError> {
        self.base
            .join(&format!("v2/{path}"))
            .map_err(|error| RegistryError::Settings {
                registry: self.key.clone(),
                problem: format!("address of `{path}`: {error}"),
            })
    }

    /// Whether an address is on this very server, so that credentials may go there.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Checks where the registry sends us, be it by a redirect, a `Location` or a token realm, and
    /// returns the address to use.
    ///
    /// A hostile registry could otherwise make us talk to services that only we can reach, such
    /// as the metadata services of clouds. Registries that are themselves at private addresses
    /// may refer to their neighbours.
    pub(crate) fn check_target(&self, mut url: Url) -> Result<Url, RegistryError> {
        let refuse = |url: &Url, reason| RegistryError::Redirect {
            registry: self.key.clone(),
            target: redact(url),
            reason,
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse(&url, "only http and https are followed"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse(&url, "the address has credentials in it"));
        }
        if url.scheme() == "http" && self.base.scheme() == "https" {
            // Behind a proxy that ends TLS, registries often take themselves for plain HTTP.
            let same = url.host() == self.base.host() && url.port() == self.base.port();
            if !same || url.set_scheme("https").is_err() {
                return Err(refuse(&url, "the connection would no longer be encrypted"));
            }
        }
        if is_private(&url) && !is_private(&self.base) {
            return Err(refuse(&url, "the address is private"));
        }
        Ok(url)
    }
}

/// Whether a registry (`host[:port]`) is on this host.
pub(crate) fn is_loopback(registry: &str) -> bool {
    Url::parse(&format!("http://{registry}/")).is_ok_and(|url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
        None => false,
    })
}

/// Whether a host is this machine, or an IP address that is not public.
fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => is_private_v4(ip),
        Some(Host::Ipv6(ip)) => is_private_v6(ip),
        None => true,
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || shared
}

fn is_private_v6(ip: Ipv6Addr) -> bool {
    let local = ip.is_unique_local() || ip.is_unicast_link_local();
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_private_v4(ip),
        IpAddr::V6(ip) => local || ip.is_loopback() || ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base: &str) -> Endpoint {
        Endpoint {
            key: "x".into(),
            base: base.parse().unwrap(),
            insecure: false,
        }
    }

    #[test]
    fn loopback_is_recognised() {
        for yes in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:1",
            "127.8.9.1",
            "[::1]:5000",
        ] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "docker.io",
            "10.0.0.1",
            "localhost.example.com",
            "[fe80::1]",
            "128.0.0.1",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn targets_are_checked() {
        let public = "https://registry.example/";
        let http = "http://registry.example/";
        let private = "http://192.168.1.5:5000/";
        for (base, target, result) in [
            (
                public,
                "https://cdn.example/x?sig=1",
                Some("https://cdn.example/x?sig=1"),
            ),
            (
                public,
                "http://registry.example/up",
                Some("https://registry.example/up"),
            ),
            (public, "http://cdn.example/x", None),
            (public, "https://169.254.169.254/latest", None),
            (public, "https://[::ffff:169.254.169.254]/", None),
            (public, "https://[fe80::1]/", None),
            (public, "https://[fd00::1]/", None),
            (public, "https://127.0.0.1/", None),
            (public, "https://localhost/", None),
            (public, "https://10.1.2.3/", None),
            (public, "https://2130706433/", None),
            (public, "https://user:pw@cdn.example/", None),
            (public, "file:///etc/passwd", None),
            (http, "http://cdn.example/x", Some("http://cdn.example/x")),
            (http, "http://169.254.169.254/", None),
            (
                private,
                "http://192.168.1.6:9000/x",
                Some("http://192.168.1.6:9000/x"),
            ),
            (
                "http://localhost:5000/",
                "http://127.0.0.1:9/x",
                Some("http://127.0.0.1:9/x"),
            ),
        ] {
            let found = endpoint(base).check_target(target.parse().unwrap());
            assert_eq!(
                found.as_ref().ok().map(Url::as_str),
                result,
                "{base} to {target}"
            );
        }
    }

    #[test]
    fn ownership_is_scheme_host_and_port() {
        let endpoint = endpoint("https://registry.example/prefix/");
        assert!(endpoint.owns(&"https://registry.example:443/x".parse().unwrap()));
        for other in [
            "http://registry.example/",
            "https://registry.example:444/",
            "https://x/",
        ] {
            assert!(!endpoint.owns(&other.parse().unwrap()), "{other}");
        }
        let url = endpoint.url("a/b/blobs/x").unwrap();
        assert_eq!(
            url.as_str(),
            "https://registry.example/prefix/v2/a/b/blobs/x"
        );
    }
}

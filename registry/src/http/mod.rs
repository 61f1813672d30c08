//! HTTP clients by host, what their answers are, and when to try again.

mod body;
mod retry;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_image::with_causes;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity};
use url::Url;

use crate::config::{RegistryConfig, TlsConfig};
use crate::endpoint::{Endpoint, is_loopback};
use crate::error::RegistryError;

pub(crate) use body::{expect, read_bounded, status_error};
pub(crate) use retry::{Backoff, retry_after};

/// Makes a client for each set of TLS settings when it is first needed: reading the system's
/// certificates takes time.
pub(crate) struct Http {
    pub(crate) config: Arc<RegistryConfig>,
    /// By kind, and by whether they send streams.
    clients: Mutex<HashMap<(Kind, bool), Client>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// No TLS at all; `true` for addresses of this host, which no proxy can reach.
    Plain(bool),
    /// The system's certificates.
    System,
    /// Certificates are not checked.
    Unchecked,
    /// Settings of one host.
    Host(String),
}

impl Http {
    pub(crate) fn new(config: Arc<RegistryConfig>) -> Self {
        Self {
            config,
            clients: Mutex::new(HashMap::new()),
        }
    }

    /// The client for an address that a request to the endpoint has led to. One that `streams` a body
    /// never takes a server for dead: the time until an answer would count from the first byte.
    pub(crate) fn client(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        streams: bool,
    ) -> Result<Client, RegistryError> {
        let host = authority(url);
        let key = if endpoint.owns(url) {
            &endpoint.key
        } else {
            &host
        };
        let tls = self
            .config
            .tls
            .get_key_value(key)
            .or_else(|| self.config.tls.get_key_value(&host));
        let (kind, tls) = match tls {
            _ if url.scheme() == "http" => (Kind::Plain(is_loopback(&host)), None),
            _ if endpoint.owns(url) && endpoint.insecure => (Kind::Unchecked, tls.map(|t| t.1)),
            Some((key, tls)) => (Kind::Host(key.clone()), Some(tls)),
            None => (Kind::System, None),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&(kind.clone(), streams)) {
            return Ok(client.clone());
        }
        let client =
            self.build(&kind, tls, streams)
                .map_err(|problem| RegistryError::Settings {
                    registry: endpoint.key.clone(),
                    problem,
                })?;
        clients.insert((kind, streams), client.clone());
        Ok(client)
    }

    fn build(&self, kind: &Kind, tls: Option<&TlsConfig>, streams: bool) -> Result<Client, String> {
        let base = || {
            let builder = Client::builder()
                .user_agent(&self.config.user_agent)
                .redirect(Policy::none())
                .referer(false)
                .connect_timeout(self.config.connect_timeout);
            match streams {
                true => builder,
                false => builder.read_timeout(self.config.read_timeout),
            }
        };
        let finish = |builder: ClientBuilder| builder.build().map_err(|error| with_causes(&error));
        match kind {
            // Without any authority to trust, so that hosts without certificates can use it.
            Kind::Plain(local) => {
                let builder = base().tls_certs_only([]);
                finish(if *local { builder.no_proxy() } else { builder })
            }
            Kind::System => finish(base()),
            Kind::Unchecked => {
                let builder = base()
                    .tls_certs_only([])
                    .tls_danger_accept_invalid_certs(true);
                finish(match tls.and_then(|tls| tls.identity.as_deref()) {
                    Some(pem) => builder.identity(identity(pem)?),
                    None => builder,
                })
            }
            Kind::Host(_) => {
                let tls = tls.cloned().unwrap_or_default();
                let mut authorities = Vec::new();
                for pem in &tls.authorities {
                    let parsed = Certificate::from_pem_bundle(pem)
                        .map_err(|error| format!("certificate authority: {error}"))?;
                    if parsed.is_empty() {
                        return Err("certificate authority: no certificate in it".into());
                    }
                    authorities.extend(parsed);
                }
                let with_identity = |builder: ClientBuilder| match tls.identity.as_deref() {
                    Some(pem) => Ok::<_, String>(builder.identity(identity(pem)?)),
                    None => Ok(builder),
                };
                let merged = base().tls_certs_merge(authorities.clone());
                match finish(with_identity(merged)?) {
                    Ok(client) => Ok(client),
                    // The system may have no certificates at all; then these are enough.
                    Err(_) if !authorities.is_empty() => {
                        finish(with_identity(base().tls_certs_only(authorities))?)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }
}

fn identity(pem: &[u8]) -> Result<Identity, String> {
    Identity::from_pem(pem).map_err(|error| format!("client certificate: {}", with_causes(&error)))
}

/// Host and explicit port, as registries are named.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

//! The client and the servers behind a registry's name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_image::Reference;
use reqwest::Method;
use url::Url;

use crate::auth::{Anonymous, Authenticator, CredentialSource, pull_scope};
use crate::config::RegistryConfig;
use crate::endpoint::{Endpoint, is_loopback};
use crate::error::RegistryError;
use crate::error::redact;
use crate::http::{Http, expect};
use crate::notice::Notice;
use crate::transport::{Call, Transport};

/// Docker Hub's name in references, and the host of its API.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A client for any number of registries. Clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Arc<RegistryConfig>,
    pub(crate) transport: Transport,
    origins: Mutex<HashMap<String, Endpoint>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with settings and credentials. Opens no connection yet.
    #[must_use]
    pub fn new(config: RegistryConfig, credentials: Arc<dyn CredentialSource>) -> Self {
        let config = Arc::new(config);
        let http = Http::new(Arc::clone(&config));
        let transport = Transport::new(http, Authenticator::new(credentials));
        Self {
            inner: Arc::new(Inner {
                config,
                transport,
                origins: Mutex::default(),
            }),
        }
    }

    /// Reports that a mirror is passed over, and keeps its error in case it was the last server.
    pub(crate) fn passed_over(
        &self,
        endpoint: &Endpoint,
        all: &[Endpoint],
        error: RegistryError,
    ) -> RegistryError {
        // That a mirror does not hold everything is nothing to worry about.
        let expected = error.is_not_found();
        if !expected && all.last().is_some_and(|last| last.base != endpoint.base) {
            self.inner.config.notices.send(Notice::MirrorPassedOver {
                mirror: redact(&endpoint.base),
                cause: error.to_string(),
            });
        }
        error
    }

    /// A client without credentials.
    #[must_use]
    pub fn anonymous(config: RegistryConfig) -> Self {
        Self::new(config, Arc::new(Anonymous))
    }

    /// Checks that the registry of a reference lets us in.
    ///
    /// # Errors
    /// When it cannot be reached, or the credentials are not accepted.
    pub async fn ping(&self, reference: &Reference) -> Result<(), RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let scopes = pull_scope(reference.repository());
        let call = Call::new(Method::GET, endpoint.url("")?, &scopes);
        let answer = self.inner.transport.send(&endpoint, call).await?;
        expect("GET", answer, &[200]).await.map(drop)
    }

    /// The servers to read from, in order: mirrors, then the registry itself.
    pub(crate) async fn readable(&self, registry: &str) -> Result<Vec<Endpoint>, RegistryError> {
        let mirrors = self
            .inner
            .config
            .mirrors
            .get(registry)
            .into_iter()
            .flatten();
        let mut endpoints: Vec<Endpoint> = mirrors
            .map(|mirror| {
                let base = mirror.url().clone();
                let host = base.host_str().unwrap_or_default();
                let key = base
                    .port()
                    .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
                let insecure = self.inner.config.insecure.contains(&key);
                Endpoint {
                    key,
                    base,
                    insecure,
                }
            })
            .collect();
        endpoints.push(self.origin(registry).await?);
        Ok(endpoints)
    }

    /// The registry's own server.
    pub(crate) async fn origin(&self, registry: &str) -> Result<Endpoint, RegistryError> {
        {
            let origins = self
                .inner
                .origins
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(endpoint) = origins.get(registry) {
                return Ok(endpoint.clone());
            }
        }
        let host = if registry == HUB.0 { HUB.1 } else { registry };
        let config = &self.inner.config;
        let insecure = config.insecure.contains(registry);
        // Registries on this host are plain unless a certificate says otherwise.
        let plain = is_loopback(registry) && !insecure && !config.tls.contains_key(registry);
        let scheme = if plain { "http" } else { "https" };
        let mut endpoint = self.endpoint(registry, scheme, host, insecure)?;
        if insecure && !self.speaks_tls(&endpoint).await? {
            endpoint = self.endpoint(registry, "http", host, insecure)?;
        }
        let mut origins = self
            .inner
            .origins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        origins.insert(registry.into(), endpoint.clone());
        Ok(endpoint)
    }

    fn endpoint(
        &self,
        key: &str,
        scheme: &str,
        host: &str,
        insecure: bool,
    ) -> Result<Endpoint, RegistryError> {
        let base = Url::parse(&format!("{scheme}://{host}/")).map_err(|error| {
            RegistryError::Settings {
                registry: key.into(),
                problem: error.to_string(),
            }
        })?;
        Ok(Endpoint {
            key: key.into(),
            base,
            insecure,
        })
    }

    /// Whether an insecure registry has TLS at all.
    async fn speaks_tls(&self, endpoint: &Endpoint) -> Result<bool, RegistryError> {
        let url = endpoint.url("")?;
        let client = self.inner.transport.http.client(endpoint, &url, false)?;
        Ok(client.get(url).send().await.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kiln_image::Descriptor;

    use super::*;
    use crate::io::MemorySink;

    /// Builds run pulls and pushes as tasks, which may move between threads.
    #[test]
    fn operations_can_be_spawned() {
        fn spawnable<T: Send>(_: &T) {}
        let client = Client::anonymous(RegistryConfig::default());
        let reference: Reference = "localhost:1/x".parse().unwrap();
        let blob = Descriptor::of("x", b"");
        let (source, mut sink) = (Bytes::new(), MemorySink::default());
        spawnable(&client.fetch_blob(&reference, &blob, &mut sink, &|_| {}));
        spawnable(&client.push_blob(&reference, &blob, &source, &[], &|_| {}));
        spawnable(&client.fetch_manifest(&reference, &[]));
        spawnable(&client.push_manifest(&reference, b"", ""));
        spawnable(&client.referrers(&reference, &blob.digest, None));
        spawnable(&client.tags(&reference));
    }
}

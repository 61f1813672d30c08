//! Reads manifests and blobs.

use kiln_image::descriptor::{MAX_BLOB_SIZE, media_type};
use kiln_image::digest::Hasher;
use kiln_image::manifest::MAX_MANIFEST_SIZE;
use kiln_image::verify::Mismatch;
use kiln_image::{Descriptor, Digest, Manifest, Reference};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE,
};
use reqwest::{Method, Response};
use url::Url;

use crate::auth::pull_scope;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, redact};
use crate::http::{Backoff, expect, read_bounded, status_error};
use crate::io::BlobSink;
use crate::pace::{Pace, TooSlow};
use crate::transport::Call;

/// The digest that a registry says its answer has.
const CONTENT_DIGEST: &str = "docker-content-digest";

impl Client {
    /// Finds out what a reference stands for, without reading it where the registry allows that.
    /// `accept` lists the media types that will do; [`media_type::ACCEPT_MANIFESTS`] is for all.
    ///
    /// # Errors
    /// When no mirror and not the registry itself has a usable answer; what each of them said.
    pub async fn resolve(
        &self,
        reference: &Reference,
        accept: &[&str],
    ) -> Result<Descriptor, RegistryError> {
        let endpoints = self.readable(reference.registry()).await?;
        let mut answers = Vec::new();
        for endpoint in &endpoints {
            let result = match self.head_manifest(endpoint, reference, accept).await {
                Ok(Some(descriptor)) => Ok(descriptor),
                // The answer to HEAD was of no use, or an error without a body to explain it.
                Ok(None) => self
                    .get_manifest(endpoint, reference, accept)
                    .await
                    .map(|manifest| described(&manifest, reference)),
                Err(error) => Err(error),
            };
            match result {
                Ok(descriptor) => return Ok(descriptor),
                Err(error) => answers.push(self.passed_over(endpoint, &endpoints, error)),
            }
        }
        Err(all_of(reference, &endpoints, answers))
    }

    /// Reads a manifest or index. Its digest is checked against the reference's, if that has one,
    /// and against what the registry says.
    ///
    /// # Errors
    /// When no mirror and not the registry itself has a valid manifest; what each of them said.
    pub async fn fetch_manifest(
        &self,
        reference: &Reference,
        accept: &[&str],
    ) -> Result<Manifest, RegistryError> {
        let endpoints = self.readable(reference.registry()).await?;
        let mut answers = Vec::new();
        for endpoint in &endpoints {
            match self.get_manifest(endpoint, reference, accept).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => answers.push(self.passed_over(endpoint, &endpoints, error)),
            }
        }
        Err(all_of(reference, &endpoints, answers))
    }

    /// Whether the repository of a reference holds a blob.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn exists(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let url = blob_url(&endpoint, reference, digest)?;
        let call = Call::new(Method::HEAD, url, &pull_scope(reference.repository()));
        let answer = self.inner.transport.send(&endpoint, call).await?;
        match answer.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(status_error("HEAD", answer).await),
        }
    }

    /// Reads a blob into a sink, from where the sink's content ends. When this returns, size and
    /// digest are right. `progress` is told the number of bytes in the sink.
    ///
    /// # Errors
    /// When no mirror and not the registry itself has the blob; the registry's error. What the
    /// sink holds then can be resumed.
    pub async fn fetch_blob<S: BlobSink>(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        sink: &mut S,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        if descriptor.size > MAX_BLOB_SIZE {
            let url = descriptor.digest.to_string();
            return Err(RegistryError::TooLarge {
                url,
                limit: MAX_BLOB_SIZE,
            });
        }
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        let present = sink
            .resume(&mut hasher)
            .await
            .map_err(|e| stored(descriptor, e))?;
        let mut pull = Pull {
            descriptor,
            sink,
            hasher,
            present,
            progress,
            pace: Pace::default(),
        };
        if pull.present > descriptor.size {
            pull.restart().await?;
        }
        progress(pull.present);
        // All of it may be there already.
        if pull.present == descriptor.size {
            if pull.finish().await?.is_ok() {
                return Ok(());
            }
            pull.restart().await?;
        }
        let endpoints = self.readable(reference.registry()).await?;
        let mut last = None;
        for endpoint in &endpoints {
            match self.pull_from(endpoint, reference, &mut pull).await {
                Ok(()) => return Ok(()),
                Err(error @ RegistryError::Local { .. }) => return Err(error),
                Err(error) => last = Some(self.passed_over(endpoint, &endpoints, error)),
            }
        }
        Err(last.unwrap_or_else(|| nowhere(reference)))
    }

    async fn head_manifest(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        accept: &[&str],
    ) -> Result<Option<Descriptor>, RegistryError> {
        let call = manifest_call(Method::HEAD, endpoint, reference, accept)?;
        let answer = self.inner.transport.send(endpoint, call).await?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Err(status_error("HEAD", answer).await),
            _ => return Ok(None),
        }
        let header = |name| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let digest = header(CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
        let size = header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok());
        let kind = header(CONTENT_TYPE.as_str())
            .map(|text| text.split(';').next().unwrap_or_default().trim())
            .filter(|kind| media_type::is_manifest(kind) || media_type::is_index(kind));
        let (Some(digest), Some(size), Some(kind)) = (digest, size, kind) else {
            return Ok(None);
        };
        if size > MAX_MANIFEST_SIZE as u64 {
            let (url, limit) = (redact(answer.url()), MAX_MANIFEST_SIZE as u64);
            return Err(RegistryError::TooLarge { url, limit });
        }
        match reference.digest() {
            Some(expected) if *expected != digest => Err(RegistryError::Content {
                url: redact(answer.url()),
                source: Mismatch::Digest {
                    expected: expected.clone(),
                    found: digest,
                },
            }),
            _ => Ok(Some(Descriptor::new(kind, digest, size))),
        }
    }

    pub(crate) async fn get_manifest(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        accept: &[&str],
    ) -> Result<Manifest, RegistryError> {
        let call = manifest_call(Method::GET, endpoint, reference, accept)?;
        let answer = self.inner.transport.send(endpoint, call).await?;
        let answer = expect("GET", answer, &[200]).await?;
        let url = redact(answer.url());
        let header = |name| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let (kind, said) = (header(CONTENT_TYPE.as_str()), header(CONTENT_DIGEST));
        let raw = read_bounded(answer, MAX_MANIFEST_SIZE as u64).await?;
        let said = said.and_then(|text| text.parse::<Digest>().ok());
        for expected in reference.digest().into_iter().chain(said.as_ref()) {
            if !expected.matches(&raw) {
                let source = Mismatch::Digest {
                    expected: expected.clone(),
                    found: Digest::of(&raw),
                };
                return Err(RegistryError::Content { url, source });
            }
        }
        Manifest::parse(&raw, kind.as_deref())
            .map_err(|source| RegistryError::Manifest { url, source })
    }

    /// Reads from one server until the blob is complete or no more progress is made.
    async fn pull_from<S: BlobSink>(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        pull: &mut Pull<'_, S>,
    ) -> Result<(), RegistryError> {
        let url = blob_url(endpoint, reference, &pull.descriptor.digest)?;
        let mut backoff = Backoff::new(self.inner.config.retry);
        let mut wrong = 0;
        pull.pace = Pace::default();
        loop {
            let before = pull.present;
            // Errors before the first byte have been tried again already.
            let Err(error) = self.pull_once(endpoint, &url, reference, pull).await? else {
                let Err(source) = pull.finish().await? else {
                    return Ok(());
                };
                // Bytes from before may have been damaged. From the start, once.
                pull.restart().await?;
                wrong += 1;
                if before == 0 || wrong > 1 {
                    return Err(RegistryError::Content {
                        url: redact(&url),
                        source,
                    });
                }
                continue;
            };
            if pull.present > before {
                backoff.reset();
            }
            let paused = pull.pace.wait(backoff.wait(None)).await;
            if !paused.map_err(|source| drips(&url, source))? {
                return Err(error);
            }
            tracing::debug!(url = redact(&url), offset = pull.present, "resuming");
        }
    }

    /// One request for what is missing. The inner error is an answer that broke off.
    async fn pull_once<S: BlobSink>(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        reference: &Reference,
        pull: &mut Pull<'_, S>,
    ) -> Result<Result<(), RegistryError>, RegistryError> {
        let mut call = Call::new(
            Method::GET,
            url.clone(),
            &pull_scope(reference.repository()),
        );
        // A compressed transfer would have other bytes at other offsets.
        call = call.header(ACCEPT_ENCODING, "identity");
        if pull.present > 0 {
            call = call.header(RANGE, &format!("bytes={}-", pull.present));
        }
        let answer = self.inner.transport.send(endpoint, call).await?;
        let answer = match answer.status().as_u16() {
            200 => {
                if pull.present > 0 {
                    pull.restart().await?;
                }
                answer
            }
            206 if pull.present > 0 && range_start(&answer) == Some(pull.present) => answer,
            206 => {
                return Err(RegistryError::protocol(
                    url,
                    "sends another range than asked for",
                ));
            }
            // What is there does not fit what the server has.
            416 if pull.present > 0 => {
                pull.restart().await?;
                let fresh = Call::new(
                    Method::GET,
                    url.clone(),
                    &pull_scope(reference.repository()),
                )
                .header(ACCEPT_ENCODING, "identity");
                let answer = self.inner.transport.send(endpoint, fresh).await?;
                expect("GET", answer, &[200]).await?
            }
            _ => return Err(status_error("GET", answer).await),
        };
        pull.drain(answer, url).await
    }
}

/// A blob on its way into a sink.
struct Pull<'a, S> {
    descriptor: &'a Descriptor,
    sink: &'a mut S,
    hasher: Hasher,
    present: u64,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    /// Of one server, in all requests: one that breaks off after each byte is no faster.
    pace: Pace,
}

impl<S: BlobSink> Pull<'_, S> {
    async fn restart(&mut self) -> Result<(), RegistryError> {
        self.sink
            .restart()
            .await
            .map_err(|error| stored(self.descriptor, error))?;
        self.hasher = Hasher::new(self.descriptor.digest.algorithm());
        self.present = 0;
        (self.progress)(0);
        Ok(())
    }

    /// Takes an answer in. The inner error leaves what arrived so far, to be resumed.
    async fn drain(
        &mut self,
        mut answer: Response,
        url: &Url,
    ) -> Result<Result<(), RegistryError>, RegistryError> {
        loop {
            let chunk = self.pace.wait(answer.chunk()).await;
            let chunk = chunk.map_err(|source| drips(url, source))?;
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(source) => {
                    let (method, source) = ("GET".into(), source.without_url());
                    return Ok(Err(RegistryError::Transport {
                        method,
                        url: redact(url),
                        source,
                    }));
                }
            };
            self.pace.came(chunk.len());
            let total = self.present + chunk.len() as u64;
            if total > self.descriptor.size {
                self.restart().await?;
                let (digest, expected) = (self.descriptor.digest.clone(), self.descriptor.size);
                let source = Mismatch::TooLong {
                    digest,
                    expected,
                    found: total,
                };
                return Err(RegistryError::Content {
                    url: redact(url),
                    source,
                });
            }
            self.hasher.update(&chunk);
            let written = self.sink.write(chunk).await;
            written.map_err(|error| stored(self.descriptor, error))?;
            self.present = total;
            (self.progress)(total);
        }
        if self.present == self.descriptor.size {
            return Ok(Ok(()));
        }
        // Some proxies end an answer early without saying so.
        let (digest, expected) = (self.descriptor.digest.clone(), self.descriptor.size);
        let source = Mismatch::TooShort {
            digest,
            expected,
            found: self.present,
        };
        Ok(Err(RegistryError::Content {
            url: redact(url),
            source,
        }))
    }

    /// Checks the digest; the inner error is a wrong one.
    async fn finish(&mut self) -> Result<Result<(), Mismatch>, RegistryError> {
        let found = self.hasher.clone().finish();
        if found != self.descriptor.digest {
            let expected = self.descriptor.digest.clone();
            return Ok(Err(Mismatch::Digest { expected, found }));
        }
        self.sink
            .complete()
            .await
            .map_err(|error| stored(self.descriptor, error))?;
        Ok(Ok(()))
    }
}

fn drips(url: &Url, source: TooSlow) -> RegistryError {
    RegistryError::Drips {
        method: "GET".into(),
        url: redact(url),
        source,
    }
}

fn stored(descriptor: &Descriptor, source: std::io::Error) -> RegistryError {
    RegistryError::Local {
        digest: descriptor.digest.to_string(),
        action: "stored",
        source,
    }
}

/// The first byte of a partial answer.
fn range_start(answer: &Response) -> Option<u64> {
    let value = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

pub(crate) fn blob_url(
    endpoint: &Endpoint,
    reference: &Reference,
    digest: &Digest,
) -> Result<Url, RegistryError> {
    endpoint.url(&format!("{}/blobs/{digest}", reference.repository()))
}

fn manifest_call(
    method: Method,
    endpoint: &Endpoint,
    reference: &Reference,
    accept: &[&str],
) -> Result<Call, RegistryError> {
    let (repository, id) = (reference.repository(), reference.manifest_id());
    let url = endpoint.url(&format!("{repository}/manifests/{id}"))?;
    let call = Call::new(method, url, &pull_scope(repository));
    Ok(call.header(ACCEPT, &accept.join(", ")))
}

/// The descriptor of a manifest; by the digest of the reference, which may be of another algorithm.
fn described(manifest: &Manifest, reference: &Reference) -> Descriptor {
    let mut descriptor = manifest.descriptor();
    if let Some(digest) = reference.digest() {
        descriptor.digest = digest.clone();
    }
    descriptor
}

/// The error of an image that no server has an answer for; `answers` are in the order of the servers.
fn all_of(
    reference: &Reference,
    endpoints: &[Endpoint],
    mut answers: Vec<RegistryError>,
) -> RegistryError {
    if answers.len() < 2 {
        return answers.pop().unwrap_or_else(|| nowhere(reference));
    }
    let own = endpoints.len() - 1;
    let places = endpoints.iter().enumerate().map(|(at, endpoint)| {
        if at == own {
            return reference.registry().to_owned();
        }
        format!("mirror {}", redact(&endpoint.base).trim_end_matches('/'))
    });
    RegistryError::Nowhere {
        reference: reference.familiar(),
        answers: places.zip(answers).collect(),
    }
}

fn nowhere(reference: &Reference) -> RegistryError {
    let problem = "there is no server to ask".into();
    RegistryError::Settings {
        registry: reference.registry().into(),
        problem,
    }
}

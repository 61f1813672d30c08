//! Writes blobs and manifests.

use bytes::Bytes;
use kiln_image::digest::Digest;
use kiln_image::manifest::ManifestError;
use kiln_image::verify::Mismatch;
use kiln_image::{Descriptor, Manifest, Reference};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE};
use reqwest::{Method, Response};
use url::Url;

use crate::auth::{ScopeSet, push_scope};
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, redact};
use crate::http::{Backoff, expect, status_error};
use crate::io::BlobSource;
use crate::pull::blob_url;
use crate::transport::{Call, Payload, location};

/// Says that the registry lists the manifest under the subject that it refers to.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// Uploads of one blob that are begun anew before giving up.
const MAX_SESSIONS: u32 = 3;

/// How a blob came to be in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry took it from another repository.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// An upload that the registry has begun.
struct Session<'a> {
    endpoint: &'a Endpoint,
    scopes: &'a ScopeSet,
    location: Url,
}

impl Client {
    /// Makes sure that a repository has a blob: looks, then tries to mount it from other
    /// repositories of the same registry, then sends it. An upload that breaks off goes on where
    /// the registry's knowledge of it ends. `progress` is told the number of bytes sent.
    ///
    /// # Errors
    /// When the registry or the source fails.
    pub async fn push_blob<S: BlobSource>(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        source: &S,
        mount_from: &[Reference],
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Pushed, RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let scopes = push_scope(reference.repository());
        if self
            .has_blob(&endpoint, reference, &descriptor.digest, &scopes)
            .await?
        {
            progress(descriptor.size);
            return Ok(Pushed::Existed);
        }
        for from in mount_from {
            if from.registry() == reference.registry()
                && from.repository() != reference.repository()
                && self.mount(reference, descriptor, from).await?
            {
                progress(descriptor.size);
                return Ok(Pushed::Mounted);
            }
        }
        let mut sessions = 0;
        loop {
            sessions += 1;
            let mut session = self.begin_upload(&endpoint, reference, &scopes).await?;
            let result = self
                .upload(&mut session, descriptor, source, progress)
                .await;
            match result {
                Ok(()) => return Ok(Pushed::Uploaded),
                Err(error @ RegistryError::Local { .. }) => {
                    self.cancel_upload(&session).await;
                    return Err(error);
                }
                Err(error) if sessions < MAX_SESSIONS && restartable(&error) => {
                    tracing::debug!(cause = error.to_string(), "upload begins anew");
                    self.cancel_upload(&session).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes sure that a repository has a small blob which it hardly has yet. It is not asked for that: sending
    /// the blob takes two requests, and a question would be one more before them. Whatever goes wrong with
    /// that, it is sent as [`Client::push_blob`] does.
    ///
    /// # Errors
    /// When the registry fails.
    pub async fn push_new_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        bytes: Bytes,
        mount_from: &[Reference],
    ) -> Result<Pushed, RegistryError> {
        match self
            .send_at_once(reference, descriptor, &bytes, mount_from)
            .await
        {
            Err(error @ RegistryError::Status { .. }) => {
                tracing::debug!(cause = error.to_string(), "a blob is not taken at once");
                self.push_blob(reference, descriptor, &bytes, mount_from, &|_| {})
                    .await
            }
            pushed => pushed,
        }
    }

    /// Begins an upload, as one that another repository may save, and sends everything in the request that
    /// ends it.
    async fn send_at_once(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        bytes: &Bytes,
        mount_from: &[Reference],
    ) -> Result<Pushed, RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let scopes = push_scope(reference.repository());
        let other = mount_from.iter().find(|from| {
            from.registry() == reference.registry() && from.repository() != reference.repository()
        });
        if let Some(from) = other {
            let wide = scopes.clone().and_pull(from.repository());
            let call = mount_call(&endpoint, reference, descriptor, from, &wide)?;
            match self.inner.transport.send(&endpoint, call).await {
                Ok(answer) if answer.status() == 201 => return Ok(Pushed::Mounted),
                // What it has begun instead goes on.
                Ok(answer) if answer.status() == 202 => {
                    let location = location(&endpoint, &answer)?;
                    let session = Session {
                        endpoint: &endpoint,
                        scopes: &wide,
                        location,
                    };
                    self.end_upload(&session, descriptor, Payload::Bytes(bytes.clone()))
                        .await?;
                    return Ok(Pushed::Uploaded);
                }
                Err(error @ RegistryError::Transport { .. }) => return Err(error),
                // It does not look into the other one; the blob can still be sent.
                Ok(_) | Err(_) => {}
            }
        }
        let session = self.begin_upload(&endpoint, reference, &scopes).await?;
        self.end_upload(&session, descriptor, Payload::Bytes(bytes.clone()))
            .await?;
        Ok(Pushed::Uploaded)
    }

    /// Asks the registry to take a blob from another of its repositories; `false` when it does
    /// not.
    ///
    /// # Errors
    /// When the registry cannot be asked. Refusals are no errors: the blob can still be sent.
    pub async fn mount(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        from: &Reference,
    ) -> Result<bool, RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        // Without the scope for both repositories the registry would not look into the other one.
        let scopes = push_scope(reference.repository()).and_pull(from.repository());
        let call = mount_call(&endpoint, reference, descriptor, from, &scopes)?;
        let answer = match self.inner.transport.send(&endpoint, call).await {
            Ok(answer) => answer,
            Err(error @ RegistryError::Transport { .. }) => return Err(error),
            Err(error) => {
                tracing::debug!(cause = error.to_string(), "blob cannot be mounted");
                return Ok(false);
            }
        };
        match answer.status().as_u16() {
            201 => Ok(true),
            // The registry has begun an upload instead; without the blob at hand, end it.
            202 => {
                if let Ok(location) = location(&endpoint, &answer) {
                    let session = Session {
                        endpoint: &endpoint,
                        scopes: &scopes,
                        location,
                    };
                    self.cancel_upload(&session).await;
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Stores a manifest or index under the tag of a reference, or under its digest when it has no
    /// tag. The bytes go out as they are.
    ///
    /// When the manifest refers to a subject and the registry has no referrers API, the index that
    /// stands in for it is updated.
    ///
    /// # Errors
    /// When the bytes are no valid manifest or not of the reference's digest, or the registry
    /// refuses them.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        raw: &[u8],
        media_type: &str,
    ) -> Result<Digest, RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let id = reference.tag().unwrap_or_else(|| reference.manifest_id());
        let url = endpoint.url(&format!("{}/manifests/{id}", reference.repository()))?;
        let refused = |source: ManifestError| RegistryError::Manifest {
            url: redact(&url),
            source,
        };
        let manifest = Manifest::parse(raw, Some(media_type)).map_err(refused)?;
        let wrong = |expected: &Digest| RegistryError::Content {
            url: redact(&url),
            source: Mismatch::Digest {
                expected: expected.clone(),
                found: Digest::of(raw),
            },
        };
        if let Some(expected) = reference.digest().filter(|expected| !expected.matches(raw)) {
            return Err(wrong(expected));
        }
        let answer = self
            .put_manifest(&endpoint, reference, &url, raw, media_type)
            .await?;
        let said = answer.headers().get("docker-content-digest");
        let said = said.and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        if let Some(said) = said.filter(|said| !said.matches(raw)) {
            return Err(wrong(&said));
        }
        let knows_subjects = answer.headers().contains_key(OCI_SUBJECT);
        let subject = match &manifest {
            Manifest::Image(image) => image.value.subject.as_ref(),
            Manifest::Index(index) => index.value.subject.as_ref(),
        };
        if let Some(subject) = subject.filter(|_| !knows_subjects) {
            self.add_referrer(reference, &subject.digest, &manifest)
                .await?;
        }
        Ok(manifest.digest().clone())
    }

    pub(crate) async fn put_manifest(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        url: &Url,
        raw: &[u8],
        media_type: &str,
    ) -> Result<Response, RegistryError> {
        let call = Call::new(
            Method::PUT,
            url.clone(),
            &push_scope(reference.repository()),
        )
        .header(CONTENT_TYPE, media_type)
        .body(Payload::Bytes(raw.to_vec().into()));
        let answer = self.inner.transport.send(endpoint, call).await?;
        expect("PUT", answer, &[200, 201, 202]).await
    }

    async fn has_blob(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        digest: &Digest,
        scopes: &ScopeSet,
    ) -> Result<bool, RegistryError> {
        let url = blob_url(endpoint, reference, digest)?;
        let answer = self
            .inner
            .transport
            .send(endpoint, Call::new(Method::HEAD, url, scopes))
            .await?;
        match answer.status().as_u16() {
            200 => Ok(true),
            // Some registries deny looking into what does not exist yet, but allow to write.
            401 | 403 | 404 | 405 => Ok(false),
            _ => Err(status_error("HEAD", answer).await),
        }
    }

    async fn begin_upload<'a>(
        &self,
        endpoint: &'a Endpoint,
        reference: &Reference,
        scopes: &'a ScopeSet,
    ) -> Result<Session<'a>, RegistryError> {
        let url = endpoint.url(&format!("{}/blobs/uploads/", reference.repository()))?;
        let answer = self
            .inner
            .transport
            .send(endpoint, Call::new(Method::POST, url, scopes))
            .await?;
        let answer = expect("POST", answer, &[202]).await?;
        Ok(Session {
            endpoint,
            scopes,
            location: location(endpoint, &answer)?,
        })
    }

    /// Sends a blob and commits it.
    async fn upload<S: BlobSource>(
        &self,
        session: &mut Session<'_>,
        descriptor: &Descriptor,
        source: &S,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        let mut backoff = Backoff::new(self.inner.config.retry);
        let mut offset = 0;
        progress(0);
        while offset < descriptor.size {
            let error = match self.stream_blob(session, descriptor, source, offset).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if !error.is_temporary() {
                return Err(error);
            }
            if !backoff.wait(None).await {
                return Err(error);
            }
            let known = self.upload_status(session).await?;
            if known > descriptor.size {
                return Err(RegistryError::protocol(
                    &session.location,
                    "has more than was sent",
                ));
            }
            if known > offset {
                backoff.reset();
            }
            offset = known;
            progress(offset);
        }
        progress(descriptor.size);
        self.end_upload(session, descriptor, Payload::Empty).await
    }

    /// Sends a blob from an offset on, in one request.
    async fn stream_blob<S: BlobSource>(
        &self,
        session: &mut Session<'_>,
        descriptor: &Descriptor,
        source: &S,
        offset: u64,
    ) -> Result<(), RegistryError> {
        let opened = source
            .open(offset)
            .await
            .map_err(|source| RegistryError::Local {
                digest: descriptor.digest.to_string(),
                action: "read",
                source,
            })?;
        let mut call = Call::new(Method::PATCH, session.location.clone(), session.scopes)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Payload::Stream(
                Some(opened),
                descriptor.size.saturating_sub(offset),
            ));
        if offset > 0 {
            let last = descriptor.size.saturating_sub(1);
            call = call.header(CONTENT_RANGE, &format!("{offset}-{last}"));
        }
        let answer = self.inner.transport.send(session.endpoint, call).await?;
        let answer = expect("PATCH", answer, &[201, 202, 204]).await?;
        session.location = location(session.endpoint, &answer)?;
        Ok(())
    }

    /// Asks how much of a broken upload has arrived.
    async fn upload_status(&self, session: &mut Session<'_>) -> Result<u64, RegistryError> {
        let call = Call::new(Method::GET, session.location.clone(), session.scopes);
        let answer = self.inner.transport.send(session.endpoint, call).await?;
        let answer = expect("GET", answer, &[202, 204]).await?;
        let range = answer
            .headers()
            .get(RANGE)
            .and_then(|value| value.to_str().ok());
        let range = range.map(|text| text.trim_start_matches("bytes=").trim().to_owned());
        session.location = location(session.endpoint, &answer)?;
        let last = range.as_deref().and_then(|text| text.strip_prefix("0-"));
        match last.and_then(|last| last.parse::<u64>().ok()) {
            Some(last) if last > 0 => Ok(last.saturating_add(1)),
            // `0-0` is what registries say both for no byte and for one byte.
            _ => Err(RegistryError::protocol(&session.location, AMBIGUOUS)),
        }
    }

    /// Makes a blob of what was sent, and of a last part.
    async fn end_upload(
        &self,
        session: &Session<'_>,
        descriptor: &Descriptor,
        last: Payload,
    ) -> Result<(), RegistryError> {
        let mut url = session.location.clone();
        url.query_pairs_mut()
            .append_pair("digest", descriptor.digest.as_str());
        let call = Call::new(Method::PUT, url, session.scopes)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(last);
        let answer = self.inner.transport.send(session.endpoint, call).await?;
        expect("PUT", answer, &[200, 201, 204]).await.map(drop)
    }

    /// Cancels an upload. The registry would do so itself some day, so failures do not matter.
    async fn cancel_upload(&self, session: &Session<'_>) {
        let call = Call::new(Method::DELETE, session.location.clone(), session.scopes);
        if let Err(error) = self.inner.transport.send(session.endpoint, call).await {
            tracing::debug!(cause = error.to_string(), "upload cannot be cancelled");
        }
    }
}

/// The request to take a blob from another repository.
fn mount_call(
    endpoint: &Endpoint,
    reference: &Reference,
    descriptor: &Descriptor,
    from: &Reference,
    scopes: &ScopeSet,
) -> Result<Call, RegistryError> {
    let mut url = endpoint.url(&format!("{}/blobs/uploads/", reference.repository()))?;
    url.query_pairs_mut()
        .append_pair("mount", descriptor.digest.as_str())
        .append_pair("from", from.repository());
    Ok(Call::new(Method::POST, url, scopes))
}

const AMBIGUOUS: &str = "does not say how much of the upload it has";

/// Whether a new upload may go better than the one that failed.
fn restartable(error: &RegistryError) -> bool {
    match error {
        // The upload is gone, out of step, or its bytes were damaged on the way.
        RegistryError::Status { status, .. } => matches!(status, 400 | 404 | 416),
        RegistryError::Protocol { problem, .. } => problem == AMBIGUOUS,
        _ => false,
    }
}

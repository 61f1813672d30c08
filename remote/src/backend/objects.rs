//! Records in a directory or in a bucket: one object each.

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use kiln_image::search::MAX_DEPTH;
use kiln_image::{Descriptor, ImageManifest, Manifest, media_type};
use kiln_registry::BlobSource as _;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, Error, RetryConfig};

use super::RecordKind;
use super::host_image::for_host;
use super::place::{Found, PART, PARTS, Place};
use crate::error::RemoteError;
use crate::limits::{MAX_RECORD_BYTES, transfer_time};
use crate::sending::Sending;
use crate::spec::{BucketSettings, S3Spec, SpecError, endpoint, host_part};
use crate::words::Secrets;

use kiln_cache::Store;

/// Bytes that may be on their way at the same time.
const ON_THE_WAY: u64 = (PART * PARTS) as u64;

/// Why there was no connection to a server; none if there was one.
fn unreachable(error: &Error) -> Option<String> {
    let mut at: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(http) = at.downcast_ref::<HttpError>() {
            return (http.kind() == HttpErrorKind::Connect).then(|| kiln_image::innermost(http));
        }
        at = at.source()?;
    }
}

/// A directory or bucket.
#[derive(Debug)]
pub(crate) struct Objects {
    place: Place,
    prefix: Path,
    /// What errors of the server must not show.
    secrets: Secrets,
    /// It is a directory, in which there may be an OCI layout.
    may_be_layout: bool,
}

impl Objects {
    /// A directory, which is made if it is missing.
    pub(crate) fn directory(dir: &FilePath) -> Result<Self, SpecError> {
        Ok(Self {
            place: Place::directory(dir).map_err(|e| SpecError(e.to_string()))?,
            prefix: Path::default(),
            secrets: Secrets::default(),
            may_be_layout: true,
        })
    }

    /// A bucket. What the description leaves open comes from `settings` or from the machine's role, as for other
    /// tools.
    pub(crate) fn s3(spec: &S3Spec, settings: &BucketSettings) -> Result<Self, SpecError> {
        let options = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            // The client's clock runs while it sends a part, too. What stalls is given up before.
            .with_read_timeout(transfer_time(ON_THE_WAY))
            .with_timeout_disabled();
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(1),
                base: 2.0,
            },
            max_retries: 2,
            retry_timeout: Duration::from_secs(10),
        };
        let mut builder = AmazonS3Builder::new();
        for (name, value) in &settings.0 {
            // As other tools, it passes over what it does not know.
            if let Ok(key) = name.to_ascii_lowercase().parse::<Key>() {
                builder = builder.with_config(key, value);
            }
        }
        let mut builder = builder
            .with_client_options(options)
            .with_retry(retry)
            .with_bucket_name(&spec.bucket)
            .with_virtual_hosted_style_request(!spec.path_style.unwrap_or(spec.endpoint.is_some()));
        if let Some(region) = &spec.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &spec.endpoint {
            builder = builder
                .with_endpoint(endpoint)
                .with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(id) = &spec.access_key_id {
            builder = builder.with_access_key_id(id);
        }
        if let Some(secret) = &spec.secret_access_key {
            builder = builder.with_secret_access_key(secret);
        }
        if let Some(token) = &spec.session_token {
            builder = builder.with_token(token);
        }
        let told = [Key::AccessKeyId, Key::SecretAccessKey, Key::Token];
        let secrets = told.iter().filter_map(|k| builder.get_config_value(k));
        let secrets = Secrets::new(secrets);
        // What the settings say is not looked at anywhere else.
        for key in [Key::Endpoint, Key::Region] {
            match (key, builder.get_config_value(&key)) {
                (Key::Endpoint, Some(address)) => drop(endpoint(&address)?),
                (_, Some(region)) => host_part("region", &region)?,
                _ => {}
            }
        }
        let store = builder.build().map_err(|e| {
            let why = secrets.hide(&e.to_string());
            SpecError(format!("bucket `{}`: {why}", spec.bucket))
        })?;
        Ok(Self {
            place: Place::Bucket(Arc::new(store)),
            prefix: Path::from(spec.prefix.as_str()),
            secrets,
            may_be_layout: false,
        })
    }

    fn failed(&self, action: &'static str) -> impl Fn(Error) -> RemoteError {
        move |error| {
            if let Some(why) = unreachable(&error) {
                let why = self.secrets.hide(&why);
                return RemoteError::Unreachable { why };
            }
            let why = match &error {
                Error::Generic { source, .. } => self.secrets.hide(&source.to_string()),
                Error::NotFound { .. } => "it is not there".into(),
                other => self.secrets.hide(&other.to_string()),
            };
            RemoteError::Failed { action, why }
        }
    }

    fn record(&self, kind: RecordKind, name: &str) -> Path {
        let folder = name.get(..2).unwrap_or_default();
        let all = self.prefix.clone().join(kind.folder());
        all.join(folder).join(name)
    }

    fn blob(&self, blob: &Descriptor) -> Path {
        let algorithm = blob.digest.algorithm().to_string();
        self.prefix
            .clone()
            .join("blobs")
            .join(algorithm)
            .join(blob.digest.hex())
    }

    fn claim_path(&self, name: &str) -> Path {
        self.prefix.clone().join("claims-v1").join(name)
    }

    async fn read(
        &self,
        path: &Path,
        action: &'static str,
    ) -> Result<Option<Vec<u8>>, RemoteError> {
        let found = self.place.get(path).await.map_err(self.failed(action))?;
        let Some(Found {
            size,
            bytes: mut stream,
        }) = found
        else {
            return Ok(None);
        };
        if size > MAX_RECORD_BYTES {
            let why = format!("it has {size} bytes");
            return Err(RemoteError::Refused(why));
        }
        // What a server says of the size need not be true.
        let mut bytes = Vec::new();
        while let Some(part) = stream.try_next().await.map_err(self.failed(action))? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > MAX_RECORD_BYTES {
                return Err(RemoteError::Refused("it has no end".into()));
            }
        }
        Ok(Some(bytes))
    }

    pub(crate) async fn get(
        &self,
        kind: RecordKind,
        name: &str,
    ) -> Result<Option<Vec<u8>>, RemoteError> {
        self.read(&self.record(kind, name), "look a result up")
            .await
    }

    /// The names of all records, if they are few.
    pub(crate) async fn names(&self) -> Result<Option<HashSet<String>>, RemoteError> {
        let all = self.prefix.clone().join(RecordKind::Single.folder());
        let names = self.place.names(&all).await;
        names.map_err(self.failed("list results"))
    }

    /// The image of an OCI layout, with its config of at most `most` bytes: blobs have the names that
    /// they have there, so its layers are fetched like others. A bucket is none.
    pub(crate) async fn image(
        &self,
        most: u64,
    ) -> Result<Option<(ImageManifest, Vec<u8>)>, RemoteError> {
        const ACTION: &str = "look into an image";
        if !self.may_be_layout {
            return Ok(None);
        }
        let path = self.prefix.clone().join("index.json");
        let Some(mut raw) = self.read(&path, ACTION).await? else {
            return Ok(None);
        };
        // The layout's own index, indexes in each other, and an image.
        for _ in 0..MAX_DEPTH + 2 {
            let image = match Manifest::parse(&raw, None) {
                // A file that happens to have this name.
                Err(error) => {
                    tracing::debug!(%error, "no image is used as a cache");
                    return Ok(None);
                }
                Ok(Manifest::Image(image)) => image.value,
                Ok(Manifest::Index(index)) => match for_host(&index.value.manifests) {
                    Some(chosen) if chosen.size <= MAX_RECORD_BYTES => {
                        raw = self.fetch_small(ACTION, chosen, &|_| {}).await?;
                        continue;
                    }
                    _ => return Ok(None),
                },
            };
            if !media_type::is_config(&image.config.media_type) || image.config.size > most {
                return Ok(None);
            }
            let config = self.fetch_small(ACTION, &image.config, &|_| {}).await?;
            return Ok(Some((image, config)));
        }
        Ok(None)
    }

    pub(crate) async fn put(
        &self,
        kind: RecordKind,
        name: &str,
        record: Vec<u8>,
    ) -> Result<(), RemoteError> {
        let put = self.place.put(&self.record(kind, name), record).await;
        put.map_err(self.failed("store a result"))
    }

    /// Sends a blob; `again` is for one that is there with other bytes than it should have.
    pub(crate) async fn put_blob(
        &self,
        action: &'static str,
        blob: &Descriptor,
        file: &Sending,
        again: bool,
    ) -> Result<bool, RemoteError> {
        if !again && self.has_blob(blob).await? {
            return Ok(false);
        }
        let path = self.blob(blob);
        let why =
            |e: std::io::Error| RemoteError::failed(action)(self.secrets.hide(&e.to_string()));
        let _on_the_way = file.hold(blob.size.min(ON_THE_WAY));
        let mut from = file.open(0).await.map_err(why)?;
        self.place.send(path, &mut from).await.map_err(why)?;
        Ok(true)
    }

    /// Whether a blob is there, in its whole length.
    pub(crate) async fn has_blob(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        let size = self.place.size(&self.blob(blob)).await;
        Ok(size.map_err(self.failed("look a blob up"))? == Some(blob.size))
    }

    /// Writes a blob from memory.
    pub(crate) async fn put_small(
        &self,
        blob: &Descriptor,
        bytes: Vec<u8>,
    ) -> Result<(), RemoteError> {
        let put = self.place.put(&self.blob(blob), bytes).await;
        put.map_err(self.failed("store a result"))
    }

    /// Reads a blob into memory.
    pub(crate) async fn fetch_small(
        &self,
        action: &'static str,
        blob: &Descriptor,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Vec<u8>, RemoteError> {
        let wrong = || RemoteError::Wrong {
            action,
            why: format!("{} is damaged there", blob.digest),
        };
        let found = self.place.get(&self.blob(blob)).await;
        let Some(found) = found.map_err(self.failed(action))? else {
            let why = format!("{} is missing there", blob.digest);
            return Err(RemoteError::Wrong { action, why });
        };
        if found.size != blob.size {
            return Err(wrong());
        }
        let mut bytes = Vec::new();
        let mut stream = found.bytes;
        while let Some(part) = stream.try_next().await.map_err(self.failed(action))? {
            bytes.extend_from_slice(&part);
            progress(bytes.len() as u64);
            if bytes.len() as u64 > blob.size {
                return Err(wrong());
            }
        }
        if !blob.matches(&bytes) {
            return Err(wrong());
        }
        Ok(bytes)
    }

    pub(crate) async fn fetch(
        &self,
        store: &Store,
        blob: &Descriptor,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RemoteError> {
        const ACTION: &str = "fetch a layer";
        let found = self.place.get(&self.blob(blob)).await;
        let found = found.map_err(self.failed(ACTION))?;
        let found = found.ok_or_else(|| RemoteError::Failed {
            action: ACTION,
            why: "it is not there".into(),
        })?;
        if found.size != blob.size {
            let why = format!("it has {} bytes and not {}", found.size, blob.size);
            return Err(RemoteError::Wrong {
                action: ACTION,
                why,
            });
        }
        let mut writer = Some(store.blob_writer(blob.digest.algorithm())?);
        let mut stream = found.bytes;
        while let Some(bytes) = stream.try_next().await.map_err(self.failed(ACTION))? {
            let Some(mut to) = writer.take() else { break };
            let written = tokio::task::spawn_blocking(move || {
                std::io::Write::write_all(&mut to, &bytes).map(|()| to)
            });
            let written = written.await.map_err(std::io::Error::other).flatten();
            let to = written.map_err(|e| kiln_cache::Error::io("write layer blob", e))?;
            if to.size() > blob.size {
                let why = "it is longer than it should be".into();
                return Err(RemoteError::Wrong {
                    action: ACTION,
                    why,
                });
            }
            progress(to.size());
            writer = Some(to);
        }
        match writer.map(|w| w.finish(Some(&blob.digest))) {
            Some(Err(e @ kiln_cache::Error::WrongDigest { .. })) => {
                let why = e.to_string();
                Err(RemoteError::Wrong {
                    action: ACTION,
                    why,
                })
            }
            Some(other) => Ok(other.map(drop)?),
            None => Ok(()),
        }
    }

    /// Who claims a name.
    pub(crate) async fn claim_of(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        self.read(&self.claim_path(name), "look a claim up").await
    }

    /// Claims a name if nobody does; whether that worked.
    pub(crate) async fn claim(&self, name: &str, claim: &[u8]) -> Result<bool, RemoteError> {
        let put = self
            .place
            .put_new(&self.claim_path(name), claim.to_vec())
            .await;
        put.map_err(self.failed("claim a step"))
    }

    /// Writes a claim of one's own again.
    pub(crate) async fn renew(&self, name: &str, claim: &[u8]) -> Result<(), RemoteError> {
        let put = self.place.put(&self.claim_path(name), claim.to_vec()).await;
        put.map_err(self.failed("claim a step"))
    }

    /// Takes a claim away.
    pub(crate) async fn unclaim(&self, name: &str) -> Result<(), RemoteError> {
        let gone = self.place.delete(&self.claim_path(name)).await;
        gone.map_err(self.failed("give a claim back"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use kiln_image::{Digest, media_type};
    use object_store::memory::InMemory;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};

    use super::*;
    use crate::pace::Pace;

    /// A bucket that takes each part so slowly.
    async fn sends(slow: Duration) -> bool {
        let config = ThrottleConfig {
            wait_put_per_call: slow,
            ..ThrottleConfig::default()
        };
        let objects = Objects {
            place: Place::Bucket(Arc::new(ThrottledStore::new(InMemory::new(), config))),
            prefix: Path::default(),
            secrets: Secrets::default(),
            may_be_layout: false,
        };
        let bytes = vec![7; 5 * PART];
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let blob = Descriptor::new(
            media_type::OCI_LAYER,
            Digest::of(&bytes),
            bytes.len() as u64,
        );
        let pace = Arc::new(Pace::of_sending());
        let sending = Sending::alone(file.path().to_owned(), pace.clone());
        let sent = objects.put_blob("send", &blob, &sending, false);
        pace.keep("send", sent).await.is_ok_and(|sent| sent.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn parts_may_take_as_long_as_the_slowest_line_needs_for_them() {
        let slowest = ON_THE_WAY / crate::limits::MIN_BYTES_PER_SECOND;
        assert!(sends(Duration::from_secs(slowest)).await);
        assert!(!sends(Duration::from_secs(2 * slowest)).await);
    }
}

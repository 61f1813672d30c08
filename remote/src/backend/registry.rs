//! Records in a registry: one OCI artifact each, under a tag of its own.

use std::time::Duration;

use kiln_image::search::MAX_DEPTH;
use kiln_image::{Descriptor, ImageManifest, Manifest, Reference, media_type, with_causes};
use kiln_registry::{BlobReader, BlobSource, Client, FileSink, MemorySink, Pushed, RegistryError};

use super::RecordKind;
use super::host_image::for_host;
use std::collections::HashSet;

use crate::error::RemoteError;
use crate::limits::MAX_TAG_LIST;
use crate::sending::Sending;
use kiln_cache::Store;

/// The type of the artifact.
const ARTIFACT: &str = "application/vnd.kiln.cache.record.v1+json";
/// The annotation that holds the record.
const RECORD: &str = "dev.kiln.cache.record";
/// The annotation that makes a manifest another one: a registry that has a manifest does not write
/// it again, even if what it has is damaged.
const AGAIN: &str = "dev.kiln.cache.again";
/// When a manifest is sent again that was called wrong. docker-registry notes a blob with a file that is
/// empty for a moment: who names the blob while another host pushes the same one is told that it is not
/// there, or that its digest is malformed.
const AGAIN_AFTER: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
/// The config that OCI asks artifacts without a config to have.
const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// A repository.
#[derive(Debug)]
pub(crate) struct Registry {
    client: Client,
    reference: Reference,
    /// The repository has the empty config.
    has_empty: tokio::sync::OnceCell<()>,
}

fn failed(action: &'static str) -> impl Fn(RegistryError) -> RemoteError {
    move |error| match error.unreachable() {
        Some(why) => RemoteError::Unreachable { why },
        None => RemoteError::Failed {
            action,
            why: with_causes(&error),
        },
    }
}

/// Bytes of memory as a blob.
struct Bytes(&'static [u8]);

impl BlobSource for Bytes {
    async fn open(&self, offset: u64) -> std::io::Result<BlobReader> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(Box::pin(self.0.get(from..).unwrap_or_default()))
    }
}

impl Registry {
    pub(crate) fn new(client: Client, reference: Reference) -> Self {
        let has_empty = tokio::sync::OnceCell::new();
        Self {
            client,
            reference,
            has_empty,
        }
    }

    /// The repository.
    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    fn tagged(&self, tag: &str) -> Result<Reference, RemoteError> {
        self.reference
            .with_tag(tag)
            .map_err(|e| RemoteError::failed("name a record")(e.to_string()))
    }

    /// The annotation of the artifact under a tag.
    async fn read(&self, tag: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let reference = self.tagged(tag)?;
        let accept = [media_type::OCI_MANIFEST];
        match self.client.fetch_manifest(&reference, &accept).await {
            Ok(Manifest::Image(mut image)) => Ok(image
                .value
                .annotations
                .remove(RECORD)
                .map(String::into_bytes)),
            Ok(Manifest::Index(_)) => Ok(None),
            Err(e) if e.is_not_found() => Ok(None),
            // It has an answer, which is no record.
            Err(
                e @ (RegistryError::Content { .. }
                | RegistryError::Manifest { .. }
                | RegistryError::TooLarge { .. }),
            ) => Err(RemoteError::Refused(with_causes(&e))),
            Err(e) => Err(failed("look a result up")(e)),
        }
    }

    /// Writes the artifact under a tag; `again` makes it another than any before.
    async fn write(
        &self,
        tag: &str,
        record: &[u8],
        layers: Vec<Descriptor>,
        again: bool,
    ) -> Result<(), RemoteError> {
        let failed = failed("store a result");
        self.empty().await.map_err(&failed)?;
        let mut manifest = ImageManifest::oci(Descriptor::of(EMPTY_TYPE, EMPTY), layers);
        manifest.artifact_type = Some(ARTIFACT.into());
        let record = String::from_utf8_lossy(record).into_owned();
        manifest.annotations.insert(RECORD.into(), record);
        if again {
            let salt = super::random_hex()?;
            manifest.annotations.insert(AGAIN.into(), salt);
        }
        let raw = manifest.to_json();
        let raw = raw.map_err(|e| RemoteError::failed("store a result")(e.to_string()))?;
        let reference = self.tagged(tag)?;
        let mut pauses = AGAIN_AFTER.into_iter();
        loop {
            let pushing = (self.client).push_manifest(&reference, &raw, media_type::OCI_MANIFEST);
            match (pushing.await, pauses.next()) {
                (Ok(_), _) => return Ok(()),
                (Err(RegistryError::Status { status: 400, .. }), Some(pause)) => {
                    tokio::time::sleep(pause).await;
                }
                (Err(error), _) => return Err(failed(error)),
            }
        }
    }

    /// Sees to it that the repository has the empty config.
    async fn empty(&self) -> Result<(), RegistryError> {
        let push = || async {
            let empty = Descriptor::of(EMPTY_TYPE, EMPTY);
            self.client
                .push_blob(&self.reference, &empty, &Bytes(EMPTY), &[], &|_| {})
                .await
                .map(drop)
        };
        self.has_empty.get_or_try_init(push).await.copied()
    }

    /// The same for a record that is written soon, which meets what goes wrong here.
    pub(crate) async fn prepare(&self) {
        if let Err(error) = self.empty().await {
            tracing::debug!(%error, "the empty config is not there");
        }
    }

    pub(crate) async fn get(
        &self,
        kind: RecordKind,
        name: &str,
    ) -> Result<Option<Vec<u8>>, RemoteError> {
        self.read(&format!("{}{name}", kind.tag())).await
    }

    /// The names of all records, if they are few.
    pub(crate) async fn names(&self) -> Result<Option<HashSet<String>>, RemoteError> {
        let tags = self.client.few_tags(&self.reference, MAX_TAG_LIST).await;
        let tags = tags.map_err(failed("list results"))?;
        let names = tags.map(|tags| {
            let tags = tags.into_iter();
            let names =
                tags.filter_map(|t| Some(t.strip_prefix(RecordKind::Single.tag())?.to_owned()));
            names.collect()
        });
        Ok(names)
    }

    /// The image that the reference itself names, with its config of at most `most` bytes.
    pub(crate) async fn image(
        &self,
        most: u64,
    ) -> Result<Option<(ImageManifest, Vec<u8>)>, RemoteError> {
        const ACTION: &str = "look into an image";
        let accept = &media_type::ACCEPT_MANIFESTS;
        let mut at = self.reference.clone();
        // Indexes in each other, and an image.
        for _ in 0..=MAX_DEPTH {
            let image = match self.client.fetch_manifest(&at, accept).await {
                Ok(Manifest::Image(image)) => image.value,
                Ok(Manifest::Index(index)) => match for_host(&index.value.manifests) {
                    Some(chosen) => {
                        at = self.reference.by_digest(chosen.digest.clone());
                        continue;
                    }
                    None => return Ok(None),
                },
                Err(e) if e.is_temporary() || e.is_denied() => return Err(failed(ACTION)(e)),
                // Nothing is there, or something that is no image: its records are looked for alone.
                Err(error) => {
                    tracing::debug!(%error, "no image is used as a cache");
                    return Ok(None);
                }
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
        record: &[u8],
        blobs: Vec<Descriptor>,
        again: bool,
    ) -> Result<(), RemoteError> {
        self.write(&format!("{}{name}", kind.tag()), record, blobs, again)
            .await
    }

    pub(crate) async fn has_blob(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        let exists = self.client.exists(&self.reference, &blob.digest).await;
        exists.map_err(failed("look a result up"))
    }

    /// Sends a blob from memory.
    pub(crate) async fn put_small(
        &self,
        blob: &Descriptor,
        bytes: Vec<u8>,
    ) -> Result<(), RemoteError> {
        let bytes = bytes::Bytes::from(bytes);
        let pushed = self
            .client
            .push_blob(&self.reference, blob, &bytes, &[], &|_| {})
            .await;
        pushed.map(drop).map_err(failed("store a result"))
    }

    /// Fetches a blob into memory. One that is not there is wrong, too.
    pub(crate) async fn fetch_small(
        &self,
        action: &'static str,
        blob: &Descriptor,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Vec<u8>, RemoteError> {
        let mut sink = MemorySink::default();
        self.client
            .fetch_blob(&self.reference, blob, &mut sink, progress)
            .await
            .map_err(|error| {
                let wrong = matches!(error, RegistryError::Content { .. }) || error.is_not_found();
                match wrong {
                    true => RemoteError::Wrong {
                        action,
                        why: with_causes(&error),
                    },
                    false => failed(action)(error),
                }
            })?;
        Ok(sink.into_bytes())
    }

    /// Sends a blob unless it is there, also in one of the other repositories. Returns whether bytes
    /// were sent.
    pub(crate) async fn put_blob(
        &self,
        action: &'static str,
        blob: &Descriptor,
        file: &Sending,
        elsewhere: &[Reference],
    ) -> Result<bool, RemoteError> {
        let pushed = self
            .client
            .push_blob(&self.reference, blob, file, elsewhere, &|_| {})
            .await
            .map_err(failed(action))?;
        Ok(pushed == Pushed::Uploaded)
    }

    /// Sends a small blob without asking whether it is there, or has it taken from one of the other
    /// repositories. Returns whether bytes were sent.
    pub(crate) async fn put_new(
        &self,
        action: &'static str,
        blob: &Descriptor,
        bytes: Vec<u8>,
        elsewhere: &[Reference],
    ) -> Result<bool, RemoteError> {
        let pushing = (self.client).push_new_blob(&self.reference, blob, bytes.into(), elsewhere);
        let pushed = pushing.await.map_err(failed(action))?;
        Ok(pushed == Pushed::Uploaded)
    }

    pub(crate) async fn fetch(
        &self,
        store: &Store,
        blob: &Descriptor,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RemoteError> {
        let file = store.open_partial(&blob.digest)?;
        let mut sink = FileSink::new(tokio::fs::File::from_std(file)).telling(progress);
        self.client
            .fetch_blob(&self.reference, blob, &mut sink, progress)
            .await
            .map_err(|error| match &error {
                RegistryError::Content { .. } => RemoteError::Wrong {
                    action: "fetch a layer",
                    why: with_causes(&error),
                },
                _ => failed("fetch a layer")(error),
            })?;
        Ok(store.adopt_partial(&blob.digest)?)
    }

    /// Who claims a name.
    pub(crate) async fn claim_of(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        self.read(&format!("c1-{name}")).await
    }

    pub(crate) async fn claim(&self, name: &str, claim: &[u8]) -> Result<(), RemoteError> {
        self.write(&format!("c1-{name}"), claim, Vec::new(), false)
            .await
    }
}

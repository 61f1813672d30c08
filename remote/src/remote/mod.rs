//! One remote cache: what it has, and how something gets there.

mod ahead;
mod bundle;
mod claim;
mod inline;
mod mounts;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_cache::Store;
use kiln_image::{Descriptor, Digest, Reference};
use kiln_registry::Client;
use kiln_solver::key::{Fingerprint, Key};

use ahead::Ahead;
use claim::Hosts;
use inline::{Inline, inline_namespace};

use crate::backend::{Backend, Objects, RecordKind, Registry};
use crate::breaker::Breaker;
use crate::error::RemoteError;
use crate::limits::{ANSWER_TIMEOUT, MAX_RECORD_BYTES, SMALL_BLOB, STORE_TIMEOUT, transfer_time};
use crate::pace::Pace;
use crate::record::{FingerprintRecord, RemoteRecord};
use crate::sending::Sending;
use crate::spec::{BucketSettings, RemoteKind, RemoteSpec, SpecError};
use crate::trust::{Sealed, Trust};

pub use claim::{Claim, Claimed, Waiting};
pub use inline::{INLINE_CACHE, InlineCache, InlineRecord};
pub use mounts::RemoteMount;

/// What is done with a remote, for messages.
const LOOK_UP: &str = "look a result up";
const STORE: &str = "store a result";
const SEND: &str = "send a layer";

/// What a remote has under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// A record that is believed, or that cannot be replaced by one that is.
    Record,
    /// A record that is not believed, and would be if it were written here.
    Refused,
}

/// What is wrong with what a remote has, and written again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rewrite {
    /// The layer's blob.
    pub blob: bool,
    /// The record.
    pub record: bool,
}

/// Under what the fingerprint of selected paths of a tree is kept.
fn fingerprint_key(identity: &str, selection: &str) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key("kiln remote cache 2026 fingerprint");
    for part in [identity, selection] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    Key::from(hasher.finalize())
}

/// What the record of a key is called in a namespace.
fn record_name(namespace: &str, key: Key) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("kiln remote cache 2026 name of a record");
    hasher.update(&(namespace.len() as u64).to_le_bytes());
    hasher.update(namespace.as_bytes());
    hasher.update(&key.0);
    hasher.finalize().to_hex().to_string()
}

/// Reads the record of a key.
fn read_record(key: Key) -> impl Fn(&str) -> Result<RemoteRecord, String> {
    move |text| RemoteRecord::from_json(text).and_then(|record| record.checked(key))
}

/// A remote cache. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Remote {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    label: String,
    backend: Backend,
    namespace: String,
    trust: Trust,
    breaker: Breaker,
    single_flight: Option<bool>,
    hosts: Hosts,
    /// Tells places apart.
    place: String,
    /// Pieces of cache mounts that could not be had.
    damaged: Mutex<HashSet<Digest>>,
    /// The records of the image that this is, once they were asked for.
    inline: tokio::sync::OnceCell<Inline>,
    /// Why they are not believed, until somebody asks.
    refused_image: Mutex<Option<String>>,
    inline_namespace: String,
    ahead: Ahead,
    /// Blobs that this build has sent: steps that make the same send it once.
    sent: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<bool>>>>,
}

impl Remote {
    /// A remote of `spec`. Opens no connection yet. `namespace` keeps the records of one group of
    /// hosts from those of another; `client` should not try for long.
    ///
    /// # Errors
    /// The settings are unusable: a directory that cannot be made, an address that is none.
    pub fn open(
        spec: &RemoteSpec,
        client: &Client,
        namespace: &str,
        trust: Trust,
        settings: &BucketSettings,
    ) -> Result<Self, SpecError> {
        let backend = match &spec.kind {
            RemoteKind::Registry { reference } => {
                Backend::Registry(Registry::new(client.clone(), reference.clone()))
            }
            RemoteKind::Local { dir } => Backend::Objects(Objects::directory(dir)?),
            RemoteKind::S3(s3) => Backend::Objects(Objects::s3(s3, settings)?),
        };
        let inline_namespace = inline_namespace(namespace);
        let namespace = format!("{namespace}\n{}", spec.namespace());
        Ok(Self {
            inner: Arc::new(Inner {
                label: spec.to_string(),
                backend,
                place: format!("{:?}\n{namespace}", spec.kind),
                namespace,
                trust,
                breaker: Breaker::default(),
                single_flight: spec.single_flight,
                hosts: Hosts::default(),
                damaged: Mutex::default(),
                inline: tokio::sync::OnceCell::new(),
                refused_image: Mutex::default(),
                inline_namespace,
                ahead: Ahead::default(),
                sent: Mutex::default(),
            }),
        })
    }

    /// What people know it by.
    pub fn label(&self) -> &str {
        &self.inner.label
    }

    /// The repository that it is, if it is one of a registry.
    pub fn repository(&self) -> Option<&Reference> {
        match &self.inner.backend {
            Backend::Registry(registry) => Some(registry.reference()),
            Backend::Objects(_) => None,
        }
    }

    /// The record of a key, if the remote has one that can be trusted. What other hosts have written in the
    /// last seconds may be missed.
    ///
    /// # Errors
    /// The remote failed, or its record is refused.
    pub async fn get(&self, key: Key) -> Result<Option<RemoteRecord>, RemoteError> {
        let (inline, ()) = tokio::join!(self.inline(key), self.look_ahead());
        match inline? {
            Some(record) => record.checked(key).map(Some).map_err(RemoteError::Refused),
            None => self.look_up(&self.name(key), read_record(key)).await,
        }
    }

    /// The same by what the remote has at this moment.
    ///
    /// # Errors
    /// The remote failed, or its record is refused.
    pub async fn get_now(&self, key: Key) -> Result<Option<RemoteRecord>, RemoteError> {
        match self.inline(key).await? {
            Some(record) => record.checked(key).map(Some).map_err(RemoteError::Refused),
            None => self.record(key).await,
        }
    }

    /// Why the records of the image that the remote is are not believed, for the first who asks since that
    /// was found.
    pub fn take_refused_image(&self) -> Option<String> {
        let refused = self.inner.refused_image.lock();
        refused.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The record of a key that the remote keeps apart from any image.
    async fn record(&self, key: Key) -> Result<Option<RemoteRecord>, RemoteError> {
        self.look_up_now(&self.name(key), read_record(key)).await
    }

    /// The fingerprint of selected paths of a result, if the remote knows it.
    ///
    /// # Errors
    /// The remote failed, or its record is refused.
    pub async fn fingerprint(
        &self,
        identity: &str,
        selection: &str,
    ) -> Result<Option<Fingerprint>, RemoteError> {
        let name = self.name(fingerprint_key(identity, selection));
        let read = |text: &str| {
            let record: FingerprintRecord =
                serde_json::from_str(text).map_err(|e| e.to_string())?;
            if record.identity != identity || record.selection != selection {
                return Err("it is that of another tree".into());
            }
            let fingerprint = Fingerprint::from_hex(&record.fingerprint);
            fingerprint.ok_or_else(|| "its fingerprint is malformed".into())
        };
        self.look_up(&name, read).await
    }

    /// Leaves the fingerprint of selected paths of a result. `again` is for one whose record is
    /// there and was refused.
    ///
    /// # Errors
    /// The remote failed.
    pub async fn put_fingerprint(
        &self,
        identity: &str,
        selection: &str,
        fingerprint: Fingerprint,
        again: bool,
    ) -> Result<(), RemoteError> {
        let record = FingerprintRecord {
            identity: identity.to_owned(),
            selection: selection.to_owned(),
            fingerprint: fingerprint.to_hex(),
        };
        let text = serde_json::to_string(&record);
        let text = text.map_err(|e| RemoteError::failed(STORE)(e.to_string()))?;
        let name = self.name(fingerprint_key(identity, selection));
        self.write(&name, text, Vec::new(), again).await
    }

    async fn read(&self, name: &str) -> Result<Option<Sealed>, RemoteError> {
        let kind = RecordKind::Single;
        let bytes = self.guarded(LOOK_UP, ANSWER_TIMEOUT, async {
            match &self.inner.backend {
                Backend::Registry(registry) => registry.get(kind, name).await,
                Backend::Objects(objects) => objects.get(kind, name).await,
            }
        });
        let sealed = bytes.await?.map(|bytes| Sealed::from_bytes(&bytes));
        sealed.transpose().map_err(RemoteError::Refused)
    }

    async fn write(
        &self,
        name: &str,
        text: String,
        blobs: Vec<Descriptor>,
        again: bool,
    ) -> Result<(), RemoteError> {
        let sealed = self.inner.trust.seal(&self.inner.namespace, text);
        let bytes = sealed.to_bytes().map_err(RemoteError::failed(STORE))?;
        if bytes.len() as u64 > MAX_RECORD_BYTES {
            let why = format!("its record has {} bytes", bytes.len());
            return Err(RemoteError::failed(STORE)(why));
        }
        let kind = RecordKind::Single;
        let put = self.guarded(STORE, STORE_TIMEOUT, async {
            match &self.inner.backend {
                Backend::Registry(r) => r.put(kind, name, &bytes, blobs, again).await,
                Backend::Objects(objects) => objects.put(kind, name, bytes).await,
            }
        });
        put.await?;
        self.keep_copy(name, sealed);
        Ok(())
    }

    /// What the remote has under this key.
    ///
    /// # Errors
    /// The remote failed.
    pub async fn holds(&self, key: Key) -> Result<Held, RemoteError> {
        match self.record(key).await {
            Ok(None) => Ok(Held::Nothing),
            Ok(Some(_)) => Ok(Held::Record),
            Err(RemoteError::Refused(_)) if self.accepts_own() => Ok(Held::Refused),
            Err(RemoteError::Refused(_)) => Ok(Held::Record),
            Err(error) => Err(error),
        }
    }

    /// Whether this host would believe a record that it writes.
    pub fn accepts_own(&self) -> bool {
        self.inner.trust.accepts_own()
    }

    /// Whether a blob that is there can be written again. A registry keeps what it has.
    pub fn replaces_blobs(&self) -> bool {
        matches!(self.inner.backend, Backend::Objects(_))
    }

    /// Sends a layer's blob, then its record. A large one is not sent if the remote has it. `file` holds the
    /// blob; `elsewhere` are repositories that may have it too. Returns whether bytes were sent.
    ///
    /// # Errors
    /// The remote failed.
    pub async fn put(
        &self,
        record: &RemoteRecord,
        file: &Path,
        elsewhere: &[Reference],
        rewrite: Rewrite,
    ) -> Result<bool, RemoteError> {
        let sent = self.put_blob(&record.blob, file, elsewhere, rewrite.blob);
        let sent = match &self.inner.backend {
            // What goes wrong with the one is met again where the record is written.
            Backend::Registry(registry) => tokio::join!(sent, registry.prepare()).0,
            Backend::Objects(_) => sent.await,
        };
        let sent = sent?;
        let text = record.to_json().map_err(RemoteError::failed(STORE))?;
        let name = self.name(record.key);
        self.write(&name, text, vec![record.blob.clone()], rewrite.record)
            .await?;
        Ok(sent)
    }

    /// Sends a blob once in a build.
    async fn put_blob(
        &self,
        blob: &Descriptor,
        file: &Path,
        elsewhere: &[Reference],
        again: bool,
    ) -> Result<bool, RemoteError> {
        let turn = {
            let mut sent = self.inner.sent.lock();
            let sent = sent.as_mut().unwrap_or_else(|e| e.get_mut());
            sent.entry(blob.digest.clone()).or_default().clone()
        };
        let mut is_there = turn.lock().await;
        if *is_there && !again {
            return Ok(false);
        }
        let pace = Arc::new(Pace::of_sending());
        let sending = async {
            if blob.size <= SMALL_BLOB {
                let bytes = tokio::fs::read(file).await;
                let bytes = bytes.map_err(|e| RemoteError::failed(SEND)(e.to_string()))?;
                return match &self.inner.backend {
                    Backend::Registry(r) => r.put_new(SEND, blob, bytes, elsewhere).await,
                    Backend::Objects(objects) => {
                        objects.put_small(blob, bytes).await.map(|()| true)
                    }
                };
            }
            let file = Sending::alone(file.to_path_buf(), pace.clone());
            match &self.inner.backend {
                Backend::Registry(r) => r.put_blob(SEND, blob, &file, elsewhere).await,
                Backend::Objects(objects) => objects.put_blob(SEND, blob, &file, again).await,
            }
        };
        let sending = async { pace.keep(SEND, sending).await.flatten() };
        let sent = self.guarded(SEND, transfer_time(blob.size), sending);
        let sent = sent.await?;
        *is_there = true;
        Ok(sent)
    }

    /// Brings a layer's blob into the store. Its digest is right when this returns.
    ///
    /// # Errors
    /// The remote failed or does not have it.
    pub async fn fetch(
        &self,
        store: &Store,
        blob: &Descriptor,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RemoteError> {
        if store.has_blob(&blob.digest) {
            return Ok(());
        }
        let pace = Pace::default();
        let meter = pace.meter();
        let progress = |done: u64| {
            meter.note(done);
            progress(done);
        };
        self.paced("fetch a layer", &pace, async {
            match &self.inner.backend {
                Backend::Registry(registry) => registry.fetch(store, blob, &progress).await,
                Backend::Objects(objects) => objects.fetch(store, blob, &progress).await,
            }
        })
        .await
    }

    /// How a key is called here.
    fn name(&self, key: Key) -> String {
        record_name(&self.inner.namespace, key)
    }

    async fn guarded<T>(
        &self,
        action: &'static str,
        after: Duration,
        work: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        self.counted(async {
            match tokio::time::timeout(after, work).await {
                Ok(result) => result,
                Err(_) => Err(RemoteError::Slow { action, after }),
            }
        })
        .await
    }

    /// Fetches something as long as it comes fast enough, whatever the remote says of its size.
    async fn paced<T>(
        &self,
        action: &'static str,
        pace: &Pace,
        work: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        self.counted(async { pace.keep(action, work).await.flatten() })
            .await
    }

    /// Does some work with the remote unless it is out of order, and counts how that went.
    async fn counted<T>(
        &self,
        work: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        if self.inner.breaker.is_open() {
            return Err(RemoteError::Broken);
        }
        let result = work.await;
        match &result {
            // It is at work, whoever has written what it gives.
            Ok(_) | Err(RemoteError::Refused(_) | RemoteError::Wrong { .. }) => {
                self.inner.breaker.succeeded();
            }
            Err(RemoteError::Store(_) | RemoteError::Broken) => {}
            Err(_) => self.inner.breaker.failed(),
        }
        result
    }

    /// Whether the remote is still asked.
    pub fn is_usable(&self) -> bool {
        !self.inner.breaker.is_open()
    }
}

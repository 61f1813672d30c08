//! Manifests that refer to another (distribution specification, "Listing Referrers").

use kiln_image::descriptor::media_type;
use kiln_image::manifest::{MAX_MANIFEST_SIZE, Manifest};
use kiln_image::{Descriptor, Digest, ImageIndex, Reference};
use reqwest::Method;
use reqwest::header::ACCEPT;

use crate::auth::pull_scope;
use crate::client::Client;
use crate::error::{RegistryError, redact};
use crate::http::{expect, read_bounded};
use crate::list::{MAX_PAGES, next_page};
use crate::transport::Call;

impl Client {
    /// The manifests that refer to a digest, all or those of one artifact type. Registries without
    /// the referrers API keep an index under a tag made of the digest, which is read then.
    ///
    /// # Errors
    /// When the registry refuses or its answer is not valid.
    pub async fn referrers(
        &self,
        reference: &Reference,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let mut found = match self
            .referrers_api(reference, subject, artifact_type)
            .await?
        {
            Some(found) => found,
            None => self.referrers_tag(reference, subject).await?.manifests,
        };
        // Registries may ignore the filter, and the tag has none.
        if let Some(wanted) = artifact_type {
            found.retain(|entry| entry.artifact_type.as_deref() == Some(wanted));
        }
        Ok(found)
    }

    /// `None` when the registry has no such API.
    async fn referrers_api(
        &self,
        reference: &Reference,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let mut url = endpoint.url(&format!("{}/referrers/{subject}", reference.repository()))?;
        if let Some(wanted) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", wanted);
        }
        let mut next = Some(url);
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let Some(url) = next else {
                return Ok(Some(found));
            };
            let call = Call::new(
                Method::GET,
                url.clone(),
                &pull_scope(reference.repository()),
            )
            .header(ACCEPT, media_type::OCI_INDEX);
            let answer = self.inner.transport.send(&endpoint, call).await?;
            let status = answer.status().as_u16();
            if page == 0 && matches!(status, 400 | 404 | 405 | 501) {
                return Ok(None);
            }
            let answer = expect("GET", answer, &[200]).await?;
            next = next_page(&endpoint, &answer)?;
            let body = read_bounded(answer, MAX_MANIFEST_SIZE as u64).await?;
            match Manifest::parse(&body, None) {
                Ok(Manifest::Index(index)) => found.extend(index.value.manifests),
                // Servers that answer everything with a page of their own.
                _ if page == 0 => return Ok(None),
                _ => return Err(RegistryError::protocol(&url, "lists no manifests")),
            }
        }
        Err(RegistryError::protocol(
            &endpoint.base,
            "has an endless list of referrers",
        ))
    }

    /// The index that stands in for the API; empty when there is none.
    async fn referrers_tag(
        &self,
        reference: &Reference,
        subject: &Digest,
    ) -> Result<ImageIndex, RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let tagged = tag_of(reference, subject)?;
        match self
            .get_manifest(&endpoint, &tagged, &[media_type::OCI_INDEX])
            .await
        {
            Ok(Manifest::Index(index)) => Ok(index.value),
            Ok(Manifest::Image(_)) => Ok(ImageIndex::oci(Vec::new())),
            Err(error) if error.is_not_found() => Ok(ImageIndex::oci(Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// Adds a manifest to the index that stands in for the API.
    pub(crate) async fn add_referrer(
        &self,
        reference: &Reference,
        subject: &Digest,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        let endpoint = self.origin(reference.registry()).await?;
        let mut index = self.referrers_tag(reference, subject).await?;
        let mut entry = manifest.descriptor();
        match manifest {
            Manifest::Image(image) => {
                let own = image.value.artifact_type.clone();
                entry.artifact_type = own.or_else(|| Some(image.value.config.media_type.clone()));
                entry.annotations.clone_from(&image.value.annotations);
            }
            Manifest::Index(list) => {
                entry.artifact_type.clone_from(&list.value.artifact_type);
                entry.annotations.clone_from(&list.value.annotations);
            }
        }
        if index.manifests.iter().any(|old| old.digest == entry.digest) {
            return Ok(());
        }
        index.manifests.push(entry);
        let tagged = tag_of(reference, subject)?;
        let url = endpoint.url(&format!(
            "{}/manifests/{}",
            tagged.repository(),
            tagged.manifest_id()
        ))?;
        let raw = index.to_json().map_err(|source| RegistryError::Manifest {
            url: redact(&url),
            source,
        })?;
        self.put_manifest(&endpoint, &tagged, &url, &raw, media_type::OCI_INDEX)
            .await
            .map(drop)
    }
}

/// The tag that stands for a digest: a colon cannot be in tags, and they have 128 characters.
fn tag_of(reference: &Reference, subject: &Digest) -> Result<Reference, RegistryError> {
    let tag: String = format!("{}-{}", subject.algorithm(), subject.hex())
        .chars()
        .take(128)
        .collect();
    reference
        .with_tag(&tag)
        .map_err(|error| RegistryError::Settings {
            registry: reference.registry().into(),
            problem: error.to_string(),
        })
}

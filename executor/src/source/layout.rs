//! OCI layouts as base images: `oci-layout://DIR[:TAG|@DIGEST]`.

use std::path::Path;

use kiln_image::archive::{Archive, OciLayout, image_name, ref_name};
use kiln_image::{Descriptor, Digest, Manifest, Platform};
use kiln_solver::ports::ResolvedImage;

use super::archive::{broken, take_oci};
use crate::engine::Engine;
use crate::error::{Error, Result, blocking};
use crate::output::LayerRef;

/// Which image of a layout is meant.
#[derive(Debug, PartialEq, Eq)]
enum Which {
    /// The only one, else the one with the tag `latest`.
    Any,
    Tag(String),
    Digest(Digest),
}

/// Takes `DIR[:TAG|@DIGEST]` apart.
fn parse(text: &str) -> Result<(&str, Which)> {
    if let Some((dir, digest)) = text.rsplit_once('@')
        && digest.contains(':')
        && !digest.contains('/')
    {
        let digest = digest
            .parse()
            .map_err(|e| Error::Image(format!("OCI layout `{text}`: {e}")))?;
        return Ok((dir, Which::Digest(digest)));
    }
    match text.rsplit_once(':') {
        Some((dir, tag)) if !tag.contains('/') && !tag.is_empty() => {
            Ok((dir, Which::Tag(tag.to_owned())))
        }
        _ => Ok((text, Which::Any)),
    }
}

/// The entry of the index that is meant.
fn choose(layout: &OciLayout, which: &Which) -> Option<Descriptor> {
    let entries = &layout.index().value.manifests;
    match which {
        Which::Tag(tag) => layout.named(tag).next().cloned(),
        Which::Digest(digest) => {
            if let Some(entry) = entries.iter().find(|e| e.digest == *digest) {
                return Some(entry.clone());
            }
            // One platform of an image for several.
            entries
                .iter()
                .find_map(|entry| match layout.manifest(entry) {
                    Ok(Manifest::Index(index)) => index
                        .value
                        .manifests
                        .into_iter()
                        .find(|e| e.digest == *digest),
                    _ => None,
                })
        }
        Which::Any => match entries.as_slice() {
            [only] => Some(only.clone()),
            _ => layout.named("latest").next().cloned(),
        },
    }
}

impl Engine {
    pub(super) async fn resolve_layout(
        &self,
        text: &str,
        platform: &Platform,
    ) -> Result<ResolvedImage> {
        let (store, platform, text) = (self.s.store.clone(), platform.clone(), text.to_owned());
        let (image, layers) = blocking(move || {
            let bad = |why: String| Error::Image(format!("OCI layout `{text}`: {why}"));
            let (dir, which) = parse(&text)?;
            let layout = match Archive::open(Path::new(dir)) {
                Ok(Archive::Oci(layout)) => layout,
                Ok(Archive::Docker(_)) => return Err(bad("it is a docker archive".into())),
                Err(e) => return Err(bad(broken(&e).to_string())),
            };
            let entry = choose(&layout, &which).ok_or_else(|| bad(names(&layout)))?;
            let image =
                take_oci(&store, &layout, &entry, &platform).map_err(|e| bad(e.to_string()))?;
            let manifest = image.manifest.unwrap_or_else(|| image.id.clone());
            let layers: Vec<LayerRef> = image.layers.into_iter().map(LayerRef::lazy).collect();
            let resolved = ResolvedImage {
                // No path of this machine: it goes into keys.
                reference: format!("oci-layout://{manifest}"),
                config_digest: image.id.to_string(),
                config: image.config,
            };
            Ok((resolved, layers))
        })
        .await?;
        // While the layout is at hand: nobody could say later where the layers come from.
        self.ready(&layers).await?;
        Ok(image)
    }
}

fn names(layout: &OciLayout) -> String {
    let entries = &layout.index().value.manifests;
    let known: Vec<String> = entries
        .iter()
        .map(|e| match (ref_name(e), image_name(e)) {
            (Some(tag), _) => tag.to_owned(),
            (None, Some(name)) => name.familiar(),
            (None, None) => e.digest.to_string(),
        })
        .collect();
    format!("it has no such image; it holds: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let tag = |t: &str| Which::Tag(t.to_owned());
        for (text, dir, which) in [
            ("/a/b", "/a/b", Which::Any),
            ("/a/b:v1", "/a/b", tag("v1")),
            ("./x:y/z", "./x:y/z", Which::Any),
            ("b:", "b:", Which::Any),
            (
                format!("b@{digest}").as_str(),
                "b",
                Which::Digest(digest.parse().unwrap()),
            ),
            ("a@b/c:d", "a@b/c", tag("d")),
        ] {
            assert_eq!(parse(text).unwrap(), (dir, which), "{text}");
        }
        assert!(parse("b@sha256:12").is_err());
    }
}

//! OCI layouts as base images: `oci-layout://DIR[:TAG|@DIGEST]`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::path::Path;

use kiln_image::archive::{Archive, OciLayout, image_name, ref_name};
use kiln_image::search::{MAX_DEPTH, MAX_READ, SearchError};
use kiln_image::{Descriptor, Digest, Manifest, Platform, media_type};
use kiln_solver::plan::ImageName;
use kiln_solver::ports::ResolvedImage;

use super::archive::{broken, search, take_oci};
use super::{Images, unfit};
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

/// Of images, those for the platform that serves best, as far as their entries name one; all of them
/// where none is named that fits.
fn best_for<'a>(wanted: &Platform, images: Vec<&'a Descriptor>) -> Vec<&'a Descriptor> {
    let rank = |entry: &Descriptor| wanted.rank(entry.platform.as_ref()?);
    let Some(best) = images.iter().filter_map(|entry| rank(entry)).min() else {
        return images;
    };
    let fits = |entry: &&Descriptor| rank(entry) == Some(best);
    images.into_iter().filter(fits).collect()
}

/// The entry of the index that is meant. Signatures and other artifacts that lie beside images are
/// meant by their digest alone.
fn choose(layout: &OciLayout, which: &Which, platform: &Platform) -> Result<Option<Descriptor>> {
    let is_image = |entry: &&Descriptor| {
        !entry.is_attestation()
            && !matches!(
                search(layout, entry, platform),
                Ok(Err(SearchError::Artifact(_) | SearchError::Empty))
            )
    };
    let named = |name: &str| {
        let all: Vec<&Descriptor> = layout.named(name).collect();
        let images = all.iter().copied().filter(is_image).collect();
        // Where there is no image of that name, what there is tells what it is.
        let image = best_for(platform, images).first().copied();
        image.or(all.first().copied()).cloned()
    };
    let entries = &layout.index().value.manifests;
    Ok(match which {
        Which::Tag(tag) => named(tag),
        Which::Digest(digest) => by_digest(layout, digest)?,
        Which::Any => match entries.as_slice() {
            [only] => Some(only.clone()),
            several => {
                let images: Vec<&Descriptor> = several.iter().filter(is_image).collect();
                match best_for(platform, images).as_slice() {
                    [only] => Some((*only).clone()),
                    _ => named("latest"),
                }
            }
        },
    })
}

/// The entry with this digest, in the layout's index or in one of those in it.
fn by_digest(layout: &OciLayout, digest: &Digest) -> Result<Option<Descriptor>> {
    let mut level = layout.index().value.manifests.clone();
    let mut read = 0;
    for _ in 0..=MAX_DEPTH {
        let mut below = Vec::new();
        for entry in level {
            if entry.digest == *digest {
                return Ok(Some(entry));
            }
            if !media_type::is_index(&entry.media_type) {
                continue;
            }
            read += 1;
            if read > MAX_READ {
                return Err(unfit("it", &SearchError::TooMany));
            }
            // What is broken or missing is not what is looked for.
            if let Ok(Manifest::Index(index)) = layout.manifest(&entry) {
                below.extend(index.value.manifests);
            }
        }
        level = below;
    }
    Ok(None)
}

impl Images {
    pub(super) async fn resolve_layout(
        &self,
        text: &str,
        platform: &Platform,
    ) -> Result<ResolvedImage> {
        let (store, platform, text) = (self.store().clone(), platform.clone(), text.to_owned());
        let (image, layers) = blocking(move || {
            let bad = |why: String| Error::Image(format!("OCI layout `{text}`: {why}"));
            let (dir, which) = parse(&text)?;
            let layout = match Archive::open(Path::new(dir)) {
                Ok(Archive::Oci(layout)) => layout,
                Ok(Archive::Docker(_)) => return Err(bad("it is a docker archive".into())),
                Err(e) => return Err(bad(broken(&e).to_string())),
            };
            let place = format!("OCI layout `{text}`");
            let entry = choose(&layout, &which, &platform).map_err(|e| in_layout(&place, e))?;
            let entry = entry.ok_or_else(|| bad(names(&layout)))?;
            let found = search(&layout, &entry, &platform).map_err(|e| in_layout(&place, e))?;
            let found = found.map_err(|e| unfit(&place, &e))?;
            let image =
                take_oci(&store, &layout, &found.manifest).map_err(|e| in_layout(&place, e))?;
            let manifest = image.manifest.unwrap_or_else(|| image.id.clone());
            let layers: Vec<LayerRef> = image.layers.into_iter().map(LayerRef::lazy).collect();
            let resolved = ResolvedImage {
                name: ImageName::Layout(manifest),
                id: image.id,
                config: image.config,
            };
            Ok((resolved, layers))
        })
        .await?;
        // While the layout is at hand: nobody could say later where the layers come from.
        self.layers.materialise(&layers).await?;
        Ok(image)
    }
}

/// An error that tells which layout it is about.
fn in_layout(place: &str, error: Error) -> Error {
    match error {
        Error::Image(why) => Error::Image(format!("{place}: {why}")),
        Error::Missing { text, hint } => Error::Missing {
            text: format!("{place}: {text}"),
            hint,
        },
        other => other,
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

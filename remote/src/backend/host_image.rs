//! Which image of an index a host means.

use kiln_image::{Descriptor, Platform, media_type};

/// The image of an index for this host, or the index that it may be in.
pub(crate) fn for_host(list: &[Descriptor]) -> Option<&Descriptor> {
    let mut images = list
        .iter()
        .filter(|d| media_type::is_manifest(&d.media_type) || media_type::is_index(&d.media_type));
    Platform::host()
        .best_match(images.clone())
        .or_else(|| images.next().filter(|d| d.platform.is_none()))
}

//! Any text as an image reference, a platform or a digest.

use kiln_image::{Digest, Platform, Reference};

/// Checks what holds for any text: what was understood can be written and understood again.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(reference) = Reference::parse(text) {
        for shown in [reference.to_string(), reference.familiar()] {
            assert_eq!(Reference::parse(&shown).as_ref(), Ok(&reference), "{shown}");
        }
        assert!(reference.tag().is_some() || reference.digest().is_some());
    }
    if let Ok(platform) = text.parse::<Platform>() {
        let shown = platform.to_string();
        assert_eq!(shown.parse::<Platform>().as_ref(), Ok(&platform), "{shown}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.as_str(), text);
    }
}

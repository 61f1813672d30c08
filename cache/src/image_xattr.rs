//! Which extended attributes are part of an image, and which say how layers lie on each other.

use std::os::fd::AsFd;

use kiln_sys::xattr;

use crate::error::Result;

/// The attributes that hold POSIX ACLs.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", DEFAULT_ACL];

/// The one that what is made in a directory inherits.
pub const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// The attribute of a directory of which nothing below shows.
pub(crate) const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Whether an attribute is part of an image: not those of the overlay, of the file system or of the
/// host's policy.
pub fn is_image_xattr(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.")
        && !name.starts_with(b"user.overlay.")
        && name != b"security.selinux"
        && (!name.starts_with(b"system.") || is_acl(name))
}

/// Whether an attribute holds a POSIX ACL.
pub fn is_acl(name: &[u8]) -> bool {
    ACLS.contains(&name)
}

/// Whether a directory of a layer shows nothing of what the layers below have there.
///
/// # Errors
/// Its attributes cannot be read.
pub fn is_opaque(dir: impl AsFd) -> Result<bool> {
    Ok(xattr::get(dir, OPAQUE)?.is_some_and(|value| value == b"y"))
}

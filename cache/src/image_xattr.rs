//! Which extended attributes are part of an image.

/// The attributes that hold POSIX ACLs.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", DEFAULT_ACL];

/// The one that what is made in a directory inherits.
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

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

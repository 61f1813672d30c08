#!/usr/bin/env bash
# What:        an extended attribute `user.overlay.note`, set in a container of buildah whose overlay is mounted
#              with `userxattr` (as rootless podman and buildah mount it), committed, and looked at in a
#              container of that image
# Behaviour:   such a mount keeps names in user.overlay.* to itself. What a program sets there, Linux 6.7 and
#              later store as user.overlay.overlay.*, and show under the name that was set. The commit reads
#              through the mount and packs user.overlay.note; but unpacking writes that name straight into
#              the layer's folder, where the mount takes it for its own and shows nothing. The attribute is
#              in the container, and in the image's layer, and not in a container of the image; mounted
#              without `userxattr`, the same image shows it.
# Version:     buildah 1.28.2+ds1-3+deb12u1+b3 (containers/storage), overlayfs of Linux 6.7 or later
# Output seen: set: note plain   stored: overlay.note plain   layer: note plain   from image: plain
#              without userxattr: note plain
set -euo pipefail
tmp=$(mktemp -d); trap 'umount "$tmp"/store/overlay/*/merged "$tmp/store/overlay" 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb buildah=1.28.2+ds1-3+deb12u1+b3 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2 libsubid4=1:4.13+dfsg1-1+deb12u2
buildah() {
  LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/buildah" --storage-driver overlay \
    --storage-opt "overlay.mountopt=$options" --root "$tmp/store" --runroot "$tmp/run" "$@"
}
from() { buildah from -q --signature-policy policy.json "$1"; }
# The last part of names like user.plain, user.overlay.note and user.overlay.overlay.note
names() {
  python3 -c 'import os, sys
print(*sorted(n[5:].removeprefix("overlay.") for n in os.listxattr(sys.argv[1]) if n.startswith("user.")))' "$1"
}
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >policy.json
options=userxattr
container=$(from scratch); root=$(buildah mount "$container")
echo text >"$root/file"
for name in plain overlay.note; do python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user." + sys.argv[2], b"v")' "$root/file" $name; done
set=$(names "$root/file"); stored=$(names store/overlay/*/diff/file)
buildah commit -q --signature-policy policy.json "$container" oci:image:x >/dev/null
layer=$(python3 - <<'P'
import glob, tarfile
for blob in filter(tarfile.is_tarfile, glob.glob("image/blobs/sha256/*")):
    for entry in tarfile.open(blob):
        keys = (key.removeprefix("SCHILY.xattr.user.") for key in entry.pax_headers if key.startswith("SCHILY.xattr."))
        print(*sorted(key.removeprefix("overlay.") for key in keys))
P
)
again=$(names "$(buildah mount "$(from oci:image:x)")/file")
options=nodev
other=$(names "$(buildah mount "$(from oci:image:x)")/file")
seen="set: $set   stored: $stored   layer: $layer   from image: $again   without userxattr: $other"
echo "$seen"
[ "$seen" = "set: note plain   stored: overlay.note plain   layer: note plain   from image: plain   without userxattr: note plain" ] ||
  { echo "the behaviour changed" >&2; exit 1; }

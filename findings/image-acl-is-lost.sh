#!/usr/bin/env bash
# What:        a layer made by `tar --acls` of a file with an access control list
# Behaviour:   GNU tar keeps lists in SCHILY.acl.access records. umoci and the storage of podman and buildah
#              know none of these and drop the list without a word; they would take it only as a raw
#              attribute (SCHILY.xattr.system.posix_acl_access), which GNU tar does not write with --acls.
# Version:     skopeo 1.9.3+ds1-1+b10 (containers/storage), umoci 0.4.7+ds-3+b7, acl 2.3.1-3
# Output seen: GNU tar: user:4321:r--   umoci: no list   storage: no list
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
image() { tool umoci init --layout image; tool umoci new --image image:x; for l; do tool umoci raw add-layer --image image:x "$l"; done; }
store() { tool skopeo --insecure-policy copy -q oci:image:x "containers-storage:[$1@$tmp/$1+$tmp/run]x:x" 2>&1; }
deb acl=2.3.1-3
echo text >file; LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) deb/bin/setfacl -m u:4321:r file
tar --acls -cf layer.tar file
image layer.tar
mkdir gnu; tar -C gnu --acls -xpf layer.tar
tool umoci raw unpack --image image:x out >/dev/null 2>&1
store vfs
list() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) deb/bin/getfacl -n "$1" 2>/dev/null | grep 4321 || echo no list; }
seen="GNU tar: $(list gnu/file)   umoci: $(list out/file)   storage: $(list vfs/vfs/dir/*/file)"
echo "$seen"
[ "$seen" = "GNU tar: user:4321:r--   umoci: no list   storage: no list" ] || { echo "the behaviour changed" >&2; exit 1; }

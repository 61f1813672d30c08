#!/usr/bin/env bash
# What:        an image with a file of 1969, in a PAX archive
# Behaviour:   the storage of podman and buildah sets every time before 1970 to 1970-01-01 00:00:00, so the
#              layer that it writes again is another one. umoci restores the time.
# Version:     skopeo 1.9.3+ds1-1+b10 (containers/storage), umoci 0.4.7+ds-3+b7
# Output seen: storage: 0   umoci: -100000
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
image() { tool umoci init --layout image; tool umoci new --image image:x; for l; do tool umoci raw add-layer --image image:x "$l"; done; }
store() { tool skopeo --insecure-policy copy -q oci:image:x "containers-storage:[$1@$tmp/$1+$tmp/run]x:x" 2>&1; }
touch -d @-100000 file; tar --format=posix -cf layer.tar file 
image layer.tar
store vfs
tool umoci raw unpack --image image:x out >/dev/null 2>&1
seen="storage: $(stat -c %Y vfs/vfs/dir/*/file)   umoci: $(stat -c %Y out/file)"
echo "$seen"
[ "$seen" = "storage: 0   umoci: -100000" ] || { echo "the behaviour changed" >&2; exit 1; }

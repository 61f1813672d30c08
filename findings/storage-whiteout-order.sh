#!/usr/bin/env bash
# What:        a layer that has a file and, after it, a whiteout of the same name. By the OCI specification a
#              whiteout hides only what is in lower layers, in whatever order the entries are.
# Behaviour:   the storage of podman and buildah refuses the image with its overlay driver ("file exists")
#              and loses the file with its vfs driver. With the two entries the other way round both keep
#              it. umoci keeps it always.
# Version:     skopeo 1.9.3+ds1-1+b10 (containers/storage), umoci 0.4.7+ds-3+b7
# Output seen: vfs: gone   overlay: file exists   umoci: new
set -euo pipefail
tmp=$(mktemp -d); trap 'umount "$tmp/overlay/overlay" 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
image() { tool umoci init --layout image; tool umoci new --image image:x; for l; do tool umoci raw add-layer --image image:x "$l"; done; }
store() { tool skopeo --insecure-policy copy -q oci:image:x "containers-storage:[$1@$tmp/$1+$tmp/run]x:x" 2>&1; }
echo old >file; tar -cf lower.tar file
echo new >file; : >.wh.file; tar -cf upper.tar file .wh.file; rm file .wh.file
image lower.tar upper.tar
store vfs
vfs=$(grep -h new vfs/vfs/dir/*/file || echo gone)
overlay=$(store overlay | grep -o 'file exists' || true)
tool umoci raw unpack --image image:x out >/dev/null 2>&1
echo "vfs: $vfs   overlay: $overlay   umoci: $(cat out/file)"
[ "$vfs, $overlay, $(cat out/file)" = "gone, file exists, new" ] || { echo "the behaviour changed" >&2; exit 1; }

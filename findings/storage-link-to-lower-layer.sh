#!/usr/bin/env bash
# What:        a layer with a hard link to a file that only the layer below has (one does not repeat the
#              text of a large file for a second name)
# Behaviour:   the storage of podman and buildah unpacks each layer into a folder of its own with the overlay
#              driver, where the target is not: the image cannot be pulled. With its vfs driver, and with
#              umoci, the link is made.
# Version:     skopeo 1.9.3+ds1-1+b10 (containers/storage), umoci 0.4.7+ds-3+b7
# Output seen: vfs: text   overlay: no such file or directory   umoci: text
set -euo pipefail
tmp=$(mktemp -d); trap 'umount "$tmp/overlay/overlay" 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
image() { tool umoci init --layout image; tool umoci new --image image:x; for l; do tool umoci raw add-layer --image image:x "$l"; done; }
store() { tool skopeo --insecure-policy copy -q oci:image:x "containers-storage:[$1@$tmp/$1+$tmp/run]x:x" 2>&1; }
echo text >file; ln file link
tar -cf lower.tar file
tar -cf upper.tar file link; tar --delete -f upper.tar file
image lower.tar upper.tar
store vfs
vfs=$(cat vfs/vfs/dir/*/link)
overlay=$(store overlay | grep -o 'no such file or directory' || true)
tool umoci raw unpack --image image:x out >/dev/null 2>&1
echo "vfs: $vfs   overlay: $overlay   umoci: $(cat out/link)"
[ "$vfs, $overlay, $(cat out/link)" = "text, no such file or directory, text" ] || { echo "the behaviour changed" >&2; exit 1; }

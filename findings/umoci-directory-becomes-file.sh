#!/usr/bin/env bash
# What:        an image unpacked by umoci, a directory with a file in it replaced by a plain file of the same
#              name, and the image repacked by umoci
# Behaviour:   the new layer has the plain file `name` and after it a whiteout `name/.wh.file`, for the file
#              that was in the directory: a path below a plain file. umoci unpacks its own layer, and so does
#              the overlay driver of podman and buildah; their vfs driver cannot ("not a directory").
# Version:     umoci 0.4.7+ds-3+b7, skopeo 1.9.3+ds1-1+b10 (containers/storage)
# Output seen: layer: name name/.wh.file   umoci: regular file   overlay: regular file   vfs: not a directory
set -euo pipefail
tmp=$(mktemp -d); trap 'umount "$tmp/overlay/overlay" 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
store() { tool skopeo --insecure-policy copy -q oci:image:new "containers-storage:[$1@$tmp/$1+$tmp/run]x:x" 2>&1; }
mkdir name; echo text >name/file; tar -cf layer.tar name
tool umoci init --layout image; tool umoci new --image image:old; tool umoci raw add-layer --image image:old layer.tar
tool umoci unpack --image image:old bundle >/dev/null 2>&1
rm -r bundle/rootfs/name; echo text >bundle/rootfs/name
tool umoci repack --image image:new bundle >/dev/null 2>&1
layer=$(python3 - <<'P'
import json, tarfile
blob = lambda entry: "image/blobs/sha256/" + entry["digest"].split(":")[1]
for entry in json.load(open("image/index.json"))["manifests"]:
    if entry["annotations"]["org.opencontainers.image.ref.name"] == "new":
        print(*[name for name in tarfile.open(blob(json.load(open(blob(entry)))["layers"][1])).getnames() if name != "."])
P
)
tool umoci unpack --image image:new again >/dev/null 2>&1
store overlay
for file in overlay/overlay/*/diff/name; do [ -d "$file" ] || overlay=$(stat -c %F "$file"); done
vfs=$(store vfs | grep -o 'not a directory' | head -n1 || true)
seen="layer: $layer   umoci: $(stat -c %F again/rootfs/name)   overlay: $overlay   vfs: $vfs"
echo "$seen"
[ "$seen" = "layer: name name/.wh.file   umoci: regular file   overlay: regular file   vfs: not a directory" ] ||
  { echo "the behaviour changed" >&2; exit 1; }

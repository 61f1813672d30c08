#!/usr/bin/env bash
# What:        a layer that removes a directory and makes a new one of that name: a whiteout, then the
#              directory with its file (the OCI specification lets a layer have both)
# Behaviour:   with the overlay driver of podman and buildah the new directory takes the whiteout's place and
#              is not marked opaque, so the files of the old one are there again. With the vfs driver, and
#              with umoci, only the new file is there.
# Version:     skopeo 1.9.3+ds1-1+b10 (containers/storage), umoci 0.4.7+ds-3+b7
# Output seen: vfs: new   overlay: new old   umoci: new
set -euo pipefail
tmp=$(mktemp -d); trap 'umount "$tmp/overlay/overlay" 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
image() { tool umoci init --layout image; tool umoci new --image image:x; for l; do tool umoci raw add-layer --image image:x "$l"; done; }
store() { tool skopeo --insecure-policy copy -q oci:image:x "containers-storage:[$1@$tmp/$1+$tmp/run]x:x" 2>&1; }
mkdir dir; echo old >dir/old; tar -cf lower.tar dir
rm dir/old; echo new >dir/new; : >.wh.dir; tar -cf upper.tar .wh.dir dir
image lower.tar upper.tar
store vfs; store overlay
tool umoci raw unpack --image image:x out >/dev/null 2>&1
upper=$(dirname overlay/overlay/*/diff/dir/new); upper=${upper%/dir} lower=$(dirname overlay/overlay/*/diff/dir/old); lower=${lower%/dir}
mkdir merged; mount -t overlay -o "lowerdir=$tmp/$upper:$tmp/$lower" overlay merged
overlay=$(echo $(ls merged/dir)); umount merged
vfs=$(dirname vfs/vfs/dir/*/dir/new); seen="vfs: $(echo $(ls "$vfs"))   overlay: $overlay   umoci: $(echo $(ls out/dir))"
echo "$seen"
[ "$seen" = "vfs: new   overlay: new old   umoci: new" ] || { echo "the behaviour changed" >&2; exit 1; }

#!/usr/bin/env bash
# What:        an image whose layer has an entry for the root itself (`./`, mode 0700, as `tar -C DIR .` writes)
# Behaviour:   what the storage of podman and buildah makes of it depends on its driver: with vfs the root has
#              that mode, with overlay the entry is passed over and the root has the mode 0555.
# Version:     skopeo 1.9.3+ds1-1+b10 (containers/storage), umoci 0.4.7+ds-3+b7
# Output seen: vfs: 700   overlay: 555   umoci: 700
set -euo pipefail
tmp=$(mktemp -d); trap 'umount "$tmp/overlay/overlay" 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
image() { tool umoci init --layout image; tool umoci new --image image:x; for l; do tool umoci raw add-layer --image image:x "$l"; done; }
store() { tool skopeo --insecure-policy copy -q oci:image:x "containers-storage:[$1@$tmp/$1+$tmp/run]x:x" 2>&1; }
mkdir -m 0700 root; echo text >root/file; tar -C root -cf layer.tar .
image layer.tar
store vfs; store overlay
tool umoci raw unpack --image image:x out >/dev/null 2>&1
seen="vfs: $(stat -c %a vfs/vfs/dir/*)   overlay: $(stat -c %a overlay/overlay/*/diff)   umoci: $(stat -c %a out)"
echo "$seen"
[ "$seen" = "vfs: 700   overlay: 555   umoci: 700" ] || { echo "the behaviour changed" >&2; exit 1; }

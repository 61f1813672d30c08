#!/usr/bin/env bash
# What:        a layer that begins with a global PAX header, as GNU tar writes with --pax-option=KEYWORD=VALUE
# Behaviour:   umoci cannot unpack the image ("unknown typeflag"). The storage of podman and buildah takes
#              the header's name for a path: the image gets a directory (/tmp here, for the name is
#              /tmp/GlobalHead.PID.N) that no entry of the layer has.
# Version:     skopeo 1.9.3+ds1-1+b10 (containers/storage), umoci 0.4.7+ds-3+b7
# Output seen: umoci: unknown typeflag   storage: file tmp
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
image() { tool umoci init --layout image; tool umoci new --image image:x; for l; do tool umoci raw add-layer --image image:x "$l"; done; }
store() { tool skopeo --insecure-policy copy -q oci:image:x "containers-storage:[$1@$tmp/$1+$tmp/run]x:x" 2>&1; }
echo text >file
TMPDIR=/tmp tar --format=posix --pax-option=comment=words -cf layer.tar file
image layer.tar
umoci=$(tool umoci raw unpack --image image:x out 2>&1 | grep -o 'unknown typeflag' | head -1 || true)
store vfs
storage=$(echo $(ls vfs/vfs/dir/*))
echo "umoci: $umoci   storage: $storage"
[ "$umoci, $storage" = "unknown typeflag, file tmp" ] || { echo "the behaviour changed" >&2; exit 1; }

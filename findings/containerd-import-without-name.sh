#!/usr/bin/env bash
# What:        OCI archives, one whose image has no name in index.json (a name is optional) and one whose image has
#              the name `v1` (the specification's own examples are such tags), given to `ctr images import`
# Behaviour:   without a name it prints nothing, ends with 0, and there is no image; with `v1` the image's name is
#              "import-" with the day's date before it. (--digests and --base-name are the ways out.)
# Version:     containerd 1.6.20~ds1-1+deb12u3
# Output seen: no name: exit 0, images: none   v1: exit 0, images: import-DATE:v1
set -euo pipefail
tmp=$(mktemp -d); server=
trap 'kill $server 2>/dev/null && wait $server 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb containerd=1.6.20~ds1-1+deb12u3 umoci=0.4.7+ds-3+b7
cat >config.toml <<T
version = 2
root = "$tmp/root"
state = "$tmp/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$tmp/socket"
T
deb/usr/bin/containerd -c config.toml >/dev/null 2>&1 & server=$!
ctr() { deb/usr/bin/ctr -a "$tmp/socket" images "$@"; }
for _ in {1..100}; do ctr list -q >/dev/null 2>&1 && break; sleep 0.1; done
echo text >file; tar -cf layer.tar file
umoci() { deb/usr/bin/umoci "$@" >/dev/null 2>&1; }
umoci init --layout image; umoci new --image image:v1; umoci raw add-layer --image image:v1 layer.tar
tar -C image -cf v1.tar oci-layout index.json blobs
sed -i 's/,"annotations":{[^}]*}//' image/index.json
tar -C image -cf none.tar oci-layout index.json blobs
try() {
  code=0; ctr import --no-unpack "$1.tar" >/dev/null 2>&1 || code=$?
  names=$(ctr list -q | sed -E 's/[0-9]{4}-[0-9]{2}-[0-9]{2}/DATE/')
  echo "exit $code, images: ${names:-none}"
}
seen="no name: $(try none)   v1: $(try v1)"
echo "$seen"
[ "$seen" = "no name: exit 0, images: none   v1: exit 0, images: import-DATE:v1" ] || { echo "the behaviour changed" >&2; exit 1; }

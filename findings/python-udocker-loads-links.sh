#!/usr/bin/env bash
# What:        an image written as a Docker archive by skopeo, loaded by udocker
# Behaviour:   skopeo keeps a layer once, as DIGEST.tar, and puts links to it where old readers look
#              (ID/layer.tar -> ../DIGEST.tar). udocker moves the links into its store and leaves the layers
#              behind: `load` prints the image's name and ends with 0, `images` lists it, and no container
#              can be created of it. With the links replaced by files one can.
# Version:     skopeo 1.9.3+ds1-1+b10, udocker 1.3.17
# Output seen: links: load 0, create 1   files: load 0, create 0
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
{ python3 -m venv v && v/bin/pip -q install --no-input udocker==1.3.17; } || exit 3
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
echo text >file; tar -cf layer.tar file
tool umoci init --layout image; tool umoci new --image image:x; tool umoci raw add-layer --image image:x layer.tar
tool skopeo --insecure-policy copy -q oci:image:x docker-archive:links.tar:name:1
mkdir unpacked; tar -C unpacked -xf links.tar; (cd unpacked; tar -hcf ../files.tar *)
printf '[DEFAULT]\nautoinstall = False\n' >udocker.conf
try() {
  udocker() { HOME=$tmp UDOCKER_DIR=$tmp/$1.u v/bin/udocker --allow-root --config=udocker.conf "${@:2}" >/dev/null 2>&1; }
  load=0; udocker "$1" load -i "$1.tar" || load=$?
  create=0; udocker "$1" create docker.io/library/name:1 || create=$?
  echo "$1: load $load, create $create"
}
seen="$(try links)   $(try files)"
echo "$seen"
[ "$seen" = "links: load 0, create 1   files: load 0, create 0" ] || { echo "the behaviour changed" >&2; exit 1; }

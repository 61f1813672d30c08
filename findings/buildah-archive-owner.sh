#!/usr/bin/env bash
# What:        `ADD --chown=3:4 archive.tar /x/` in a Dockerfile, built by buildah, beside the same for a plain
#              file
# Behaviour:   the plain file belongs to 3:4. What is unpacked from the archive does not: the option is
#              passed over without a word, and the files keep the owners that the archive names. (BuildKit
#              gives both to 3:4.)
# Version:     buildah 1.28.2+ds1-3+deb12u1+b3
# Output seen: file 3:4   packed 7:8
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb buildah=1.28.2+ds1-3+deb12u1+b3 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2 libsubid4=1:4.13+dfsg1-1+deb12u2
buildah() {
  LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/buildah" \
    --storage-driver vfs --root "$tmp/store" --runroot "$tmp/run" "$@"
}
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >policy.json
mkdir context; echo text | tee packed >context/file
tar --numeric-owner --owner=:7 --group=:8 -cf context/archive.tar packed
printf 'FROM scratch\nADD --chown=3:4 archive.tar file /x/\n' >context/Dockerfile
buildah build -q --signature-policy policy.json -t image context >/dev/null
root=$(buildah mount "$(buildah from --signature-policy policy.json image)")
seen=$(cd "$root/x"; echo $(stat -c '%n %u:%g' file packed))
buildah umount -a >/dev/null
echo "$seen"
[ "$seen" = "file 3:4 packed 7:8" ] || { echo "the behaviour changed" >&2; exit 1; }

#!/usr/bin/env bash
# What:        a file of 1969 in an archive of bsdtar, read by tools that know GNU's binary numbers but take
#              no times from PAX headers
# Behaviour:   the time field of a header has 12 bytes. GNU tar puts a binary number into all of them,
#              libarchive into the first 11, with a space behind, so that others read -10 as
#              -10 * 256 + 32 = -2528.
# Version:     libarchive-tools and libarchive13 3.6.2-1+deb12u5, busybox-static 1:1.35.0-4+deb12u1+b1
# Output seen: GNU tar's archive: -10   bsdtar's archive: -2528
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5 busybox-static=1:1.35.0-4+deb12u1+b1
touch -d @-10 file
tar --format=gnu -cf gnu.tar file
LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) deb/usr/bin/bsdtar -cf bsd.tar file
mkdir gnu bsd
for d in gnu bsd; do deb/bin/busybox tar -C $d -xf $d.tar; done
gnu=$(stat -c %Y gnu/file) bsd=$(stat -c %Y bsd/file)
echo "GNU tar's archive: $gnu   bsdtar's archive: $bsd"
[ "$gnu $bsd" = "-10 -2528" ] || { echo "the behaviour changed" >&2; exit 1; }

#!/usr/bin/env bash
# What:        files with a fraction of a second before 1970 (-0.5, -5.25), in PAX archives of GNU tar and
#              of bsdtar
# Behaviour:   libarchive counts the fraction of a negative decimal upwards: it writes -5.25 as -6.75, and
#              reads -5.25 as -4.75 and -0.5 as +0.5. With itself it agrees; with every other reader
#              and writer it is off by up to two seconds, and on the wrong side of 1970.
# Version:     libarchive-tools and libarchive13 3.6.2-1+deb12u5
# Output seen: GNU tar's archive read by bsdtar:  0.500000000 -4.750000000
#              bsdtar's archive read by GNU tar:  -1.500000000 -6.750000000
#              bsdtar's archive read by bsdtar:   -0.500000000 -5.250000000
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5
bsdtar() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/bsdtar" "$@"; }
touch -d @-0.5 half; touch -d @-5.25 five
tar --format=posix -cf gnu.tar half five
bsdtar --format=pax -cf bsd.tar half five
mkdir gnu-bsd bsd-gnu bsd-bsd
bsdtar -C gnu-bsd -xpf gnu.tar
tar -C bsd-gnu -xpf bsd.tar 2>/dev/null
bsdtar -C bsd-bsd -xpf bsd.tar
seen=$(for d in gnu-bsd bsd-gnu bsd-bsd; do echo $d: $(stat -c %.9Y $d/half $d/five); done)
echo "$seen"
[ "$seen" = 'gnu-bsd: 0.500000000 -4.750000000
bsd-gnu: -1.500000000 -6.750000000
bsd-bsd: -0.500000000 -5.250000000' ] || { echo "the behaviour changed" >&2; exit 1; }

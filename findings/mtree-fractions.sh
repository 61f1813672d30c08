#!/usr/bin/env bash
# What:        the time of a file, 5 ms after a full second, in manifests (mtree) of bsdtar and of NetBSD's mtree, the
#              format in which umoci, too, notes what it unpacked
# Behaviour:   what follows the dot is no fraction but a count of nanoseconds, and neither tool pads it: 5 ms are
#              written `.5000000`, which looks like half a second. They agree with each other; read as a number
#              the time is wrong, and `.5`, as a decimal writes half a second, is to them five nanoseconds.
# Version:     libarchive-tools and libarchive13 3.6.2-1+deb12u5, mtree-netbsd 20180822-7
# Output seen: bsdtar: time=1700000000.5000000   mtree: time=1700000000.5000000   time=1700000000.5: 1700000000.000000005
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5 mtree-netbsd=20180822-7
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp"/deb/usr/*bin/"$1" "${@:2}"; }
mkdir in; echo text >in/file; touch -d @1700000000.005 in/file
shown() { grep -o 'time=1700000000[.0-9]*'; }
bsdtar=$(tool bsdtar -C in --format=mtree --options='!all,time,type' -cf - file | shown)
mtree=$(tool mtree -c -k time,type -p in | shown)
printf '#mtree\n./file type=file time=1700000000.5\n' >manifest
mkdir out; cd in; tool bsdtar --format=pax -cf ../out.tar @../manifest; cd ..
tar -C out -xf out.tar; half=$(stat -c %.9Y out/file)
seen="bsdtar: $bsdtar   mtree: $mtree   time=1700000000.5: $half"
echo "$seen"
[ "$seen" = "bsdtar: time=1700000000.5000000   mtree: time=1700000000.5000000   time=1700000000.5: 1700000000.000000005" ] ||
  { echo "the behaviour changed" >&2; exit 1; }

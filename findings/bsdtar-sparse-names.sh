#!/usr/bin/env bash
# What:        a directory with a file that has a hole, packed by bsdtar without any option
# Behaviour:   bsdtar writes the file in GNU's sparse form 1.0 unasked: under an invented name, with the
#              map of holes before the data. Readers that do not know the form (npm's tar, tar-stream and
#              modern-tar, busybox) report success and leave `GNUSparseFile.0/disk` of 516 bytes there
#              in place of `disk`.
# Version:     libarchive-tools and libarchive13 3.6.2-1+deb12u5, tar (npm) 7.5.23, busybox-static
#              1:1.35.0-4+deb12u1+b1
# Output seen: GNU tar: disk 1048580   node-tar, busybox: GNUSparseFile.0/disk 516
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5 busybox-static=1:1.35.0-4+deb12u1+b1
npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 >/dev/null || exit 3
mkdir in gnu node busybox
truncate -s 1M in/disk; echo end >>in/disk
LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) deb/usr/bin/bsdtar -C in -cf in.tar disk
tar -C gnu -xf in.tar
node -e "require('./node_modules/tar').x({file: 'in.tar', cwd: 'node', sync: true})"
deb/bin/busybox tar -C busybox -xf in.tar
seen=$(for d in gnu node busybox; do (cd $d; find . -type f -printf "$d: %P %s\n"); done)
echo "$seen"
[ "$seen" = 'gnu: disk 1048580
node: GNUSparseFile.0/disk 516
busybox: GNUSparseFile.0/disk 516' ] || { echo "the behaviour changed" >&2; exit 1; }

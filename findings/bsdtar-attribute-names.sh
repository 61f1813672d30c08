#!/usr/bin/env bash
# What:        a file with an extended attribute whose name has `=` in it, packed and unpacked
# Behaviour:   `=` ends a key in a PAX record, so GNU tar and bsdtar both write %3D for it. GNU tar reads
#              it back; bsdtar does not: from GNU tar's archive the attribute has another name, and from
#              an archive of its own (which has the name a second time, in a form of libarchive's) the
#              file comes back with two attributes.
# Version:     libarchive-tools and libarchive13 3.6.2-1+deb12u5
# Output seen: gnu reads gnu: user.a=b   bsd reads gnu: user.a%3Db   bsd reads bsd: user.a%3Db user.a=b
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5
bsdtar() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/bsdtar" "$@"; }
names() { python3 -c 'import os, sys; print(*sorted(n for n in os.listxattr(sys.argv[1]) if n.startswith("user.")))' "$1"; }
echo text >file
python3 -c 'import os; os.setxattr("file", "user.a=b", b"v")'
tar --xattrs -cf gnu.tar file
bsdtar --xattrs -cf bsd.tar file
mkdir gnu-gnu bsd-gnu bsd-bsd
tar -C gnu-gnu --xattrs -xpf gnu.tar
bsdtar --xattrs -C bsd-gnu -xpf gnu.tar
bsdtar --xattrs -C bsd-bsd -xpf bsd.tar
seen="gnu reads gnu: $(names gnu-gnu/file)   bsd reads gnu: $(names bsd-gnu/file)   bsd reads bsd: $(names bsd-bsd/file)"
echo "$seen"
[ "$seen" = "gnu reads gnu: user.a=b   bsd reads gnu: user.a%3Db   bsd reads bsd: user.a%3Db user.a=b" ] ||
  { echo "the behaviour changed" >&2; exit 1; }

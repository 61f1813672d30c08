#!/usr/bin/env bash
# What:        files of uid 3000000 (users of a user namespace), packed by GNU tar in its own and in the
#              POSIX format
# Behaviour:   busybox reads the name from a PAX header but none of the numbers: unpacked from the POSIX
#              format the file belongs to root, without a warning. The same number in GNU's binary form
#              is read.
# Version:     busybox-static 1:1.35.0-4+deb12u1+b1
# Output seen: format=gnu 3000000   format=posix 0
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb busybox-static=1:1.35.0-4+deb12u1+b1
echo text >file
seen=$(for format in gnu posix; do
  mkdir $format
  tar --format=$format --owner=user:3000000 -cf $format.tar file
  deb/bin/busybox tar -C $format --numeric-owner -xpf $format.tar
  echo "format=$format $(stat -c %u $format/file)"
done)
echo "$seen"
[ "$seen" = 'format=gnu 3000000
format=posix 0' ] || { echo "the behaviour changed" >&2; exit 1; }

#!/usr/bin/env bash
# What:        files of the users 65535 and 3000000 (as user namespaces have them) in an archive, made into an ext2
#              image by genext2fs, and in a folder made into one by `mke2fs -d`
# Behaviour:   an inode has the upper 16 bits of an owner in another place. genext2fs fills only the lower ones: user
#              3000000 becomes 3000000 mod 65536 = 50880, without a word. mke2fs fills both.
# Version:     genext2fs 1.5.0-3 and libarchive13 3.6.2-1+deb12u5, e2fsprogs 1.47.0-2+b2
# Output seen: genext2fs: 65535 50880   mke2fs: 65535 3000000
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb genext2fs=1.5.0-3 libarchive13=3.6.2-1+deb12u5 e2fsprogs=1.47.0-2+b2 libext2fs2=1.47.0-2+b2 libss2=1.47.0-2+b2 \
  libcom-err2=1.47.0-2+b2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu):$(echo "$tmp"/deb/lib/*-linux-gnu) "$tmp/deb/$1" "${@:2}"; }
mkdir in; echo text >in/a; echo text >in/b; chown 65535 in/a; chown 3000000 in/b
tar -C in -cf in.tar a b
tool usr/bin/genext2fs -B 1024 -b 1024 -a in.tar genext2fs.img >/dev/null 2>&1
truncate -s 1M mke2fs.img; tool sbin/mke2fs -q -t ext2 -d in mke2fs.img
owners() { for file in a b; do tool sbin/debugfs -R "stat /$file" "$1.img" 2>/dev/null | sed -En 's/^User: *([0-9]+).*/\1/p'; done; }
seen="genext2fs: $(echo $(owners genext2fs))   mke2fs: $(echo $(owners mke2fs))"
echo "$seen"
[ "$seen" = "genext2fs: 65535 50880   mke2fs: 65535 3000000" ] || { echo "the behaviour changed" >&2; exit 1; }

#!/usr/bin/env bash
# What:        the upper directory of an overlay in which a directory was removed and made anew, moved to
#              another place by GNU tar and by bsdtar, both told `--xattrs` when they pack and unpack
# Behaviour:   that the new directory hides the old one stands in its attribute trusted.overlay.opaque (or
#              user.overlay.opaque, if the mount has `userxattr`). GNU tar packs both names, and without
#              --xattrs-include it unpacks only user.*: without a word the old file is there again. A
#              whiteout, which is a device, is kept, and so are the marks of an overlay with `userxattr`.
# Version:     GNU tar 1.34+dfsg-1.2+deb12u1, libarchive-tools and libarchive13 3.6.2-1+deb12u5, overlayfs of Linux 5.11
#              or later
# Output seen: trusted tar: new old   trusted bsdtar: new   user tar: new   user bsdtar: new
set -euo pipefail
tmp=$(mktemp -d); trap 'umount "$tmp/merged" 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb tar=1.34+dfsg-1.2+deb12u1 libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$1" "${@:2}"; }
mkdir lower merged; mkdir lower/dir; echo text >lower/dir/old; echo text >lower/removed
seen=
for kind in trusted user; do
  [ $kind = user ] && options=,userxattr || options=
  mkdir $kind $kind.work
  mount -t overlay -o "lowerdir=lower,upperdir=$kind,workdir=$kind.work$options" overlay merged
  rm -r merged/dir merged/removed; mkdir merged/dir; echo text >merged/dir/new
  umount merged
  for tar in deb/bin/tar deb/usr/bin/bsdtar; do
    rm -rf moved moved.work; mkdir moved moved.work
    tool $tar --xattrs -C $kind -cf $kind.tar .
    tool $tar --xattrs -C moved -xpf $kind.tar
    mount -t overlay -o "lowerdir=lower,upperdir=moved,workdir=moved.work$options" overlay merged
    [ ! -e merged/removed ] || { echo "the whiteout is lost" >&2; exit 1; }
    seen+="$kind $(basename $tar): $(echo $(ls merged/dir))   "
    umount merged
  done
done
echo "$seen"
[ "$seen" = "trusted tar: new old   trusted bsdtar: new   user tar: new   user bsdtar: new   " ] ||
  { echo "the behaviour changed" >&2; exit 1; }

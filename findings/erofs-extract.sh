#!/usr/bin/env bash
# What:        a set-user-ID program of root with two names and an attribute, in an EROFS image made by
#              mkfs.erofs, mounted, and unpacked by fsck.erofs --extract of the same package
# Behaviour:   the mounted image has all of it. Unpacked by root, for whom --preserve ("same ownership and
#              permissions") is the default, the set-user-ID bit is gone (the mode is set before the owner,
#              and a change of owner clears it), the two names are two files, and the attribute (as file
#              capabilities are) is not there. The exit code is 0, and nothing is said.
# Version:     erofs-utils 1.5-1
# Output seen: mounted: 4755, 2 names, user.note   extracted: 755, 1 names, none
set -euo pipefail
tmp=$(mktemp -d); trap 'umount "$tmp/mounted" 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb erofs-utils=1.5-1
mkdir in mounted
echo text >in/program; ln in/program in/link; chmod 4755 in/program
python3 -c 'import os; os.setxattr("in/program", "user.note", b"v")'
deb/usr/bin/mkfs.erofs image in >/dev/null 2>&1
mount -o loop,ro -t erofs image mounted
deb/usr/bin/fsck.erofs --extract=extracted image >/dev/null
facts() {
  echo "$1: $(stat -c '%a, %h names' "$1/program"), $(python3 -c 'import os, sys
print(*[n for n in os.listxattr(sys.argv[1]) if n.startswith("user.")] or ["none"])' "$1/program")"
}
seen="$(facts mounted)   $(facts extracted)"
echo "$seen"
[ "$seen" = "mounted: 4755, 2 names, user.note   extracted: 755, 1 names, none" ] || { echo "the behaviour changed" >&2; exit 1; }

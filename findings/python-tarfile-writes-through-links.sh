#!/usr/bin/env bash
# What:        an archive that has a file, a hard link to it, and a newer version of the file (as made by
#              `tar -r` after an editor replaced the file)
# Behaviour:   GNU tar and node-tar take the old file away first, so the link keeps the old text.
#              Python's tarfile and npm's tar-fs open the old file for writing: the link changes too, and
#              the two stay one inode.
# Version:     backports.tarfile 1.2.0 (the module of CPython 3.12), tar-fs 3.1.3, tar (npm) 7.5.23
# Output seen: link: GNU tar "old", node-tar "old", tarfile "new", tar-fs "new"
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input backports.tarfile==1.2.0; } || exit 3
npm install --silent --no-audit --no-fund --prefix . tar-fs@3.1.3 tar@7.5.23 >/dev/null || exit 3
echo old >file; ln file link; tar -cf update.tar file link
rm file; echo new >file; tar -rf update.tar file
mkdir gnu tarfile node-tar tar-fs
tar -C gnu -xf update.tar
v/bin/python -c 'from backports import tarfile; tarfile.open("update.tar").extractall("tarfile", filter="fully_trusted")'
node -e "require('./node_modules/tar').x({file: 'update.tar', cwd: 'node-tar', sync: true})"
node -e "require('fs').createReadStream('update.tar').pipe(require('./node_modules/tar-fs').extract('tar-fs'))"
seen=$(for d in gnu node-tar tarfile tar-fs; do echo "$d: file $(cat $d/file), link $(cat $d/link)"; done)
echo "$seen"
[ "$seen" = 'gnu: file new, link old
node-tar: file new, link old
tarfile: file new, link new
tar-fs: file new, link new' ] || { echo "the behaviour changed" >&2; exit 1; }

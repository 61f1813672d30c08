#!/usr/bin/env bash
# What:        an archive of a file and a hard link to it, where the link's header has another mode, owner
#              and time than the file's (both name one inode; layers of images have such pairs)
# Behaviour:   Python's tarfile and npm's tar-fs put the link's header on the inode, so the last header
#              counts; GNU tar and node-tar leave the inode as the file's header says.
# Version:     backports.tarfile 1.2.0 (the module of CPython 3.12), tar-fs 3.1.3, tar (npm) 7.5.23
# Output seen: GNU tar 644 1000, node-tar 644 1000, tarfile 600 2000, tar-fs 600 2000
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input backports.tarfile==1.2.0; } || exit 3
npm install --silent --no-audit --no-fund --prefix . tar-fs@3.1.3 tar@7.5.23 >/dev/null || exit 3
v/bin/python - <<'P'
import io
from backports import tarfile

with tarfile.open("pair.tar", "w") as archive:
    file = tarfile.TarInfo("file")
    file.mode, file.mtime, file.size = 0o644, 1000, 5
    archive.addfile(file, io.BytesIO(b"text\n"))
    link = tarfile.TarInfo("link")
    link.type, link.linkname, link.mode, link.mtime = tarfile.LNKTYPE, "file", 0o600, 2000
    archive.addfile(link)
P
mkdir gnu tarfile node-tar tar-fs
tar -C gnu -xpf pair.tar
v/bin/python -c 'from backports import tarfile; tarfile.open("pair.tar").extractall("tarfile", filter="fully_trusted")'
node -e "require('./node_modules/tar').x({file: 'pair.tar', cwd: 'node-tar', sync: true})"
node -e "require('fs').createReadStream('pair.tar').pipe(require('./node_modules/tar-fs').extract('tar-fs'))"
seen=$(stat -c '%n %a %Y' {gnu,node-tar,tarfile,tar-fs}/file)
echo "$seen"
[ "$seen" = 'gnu/file 644 1000
node-tar/file 644 1000
tarfile/file 600 2000
tar-fs/file 600 2000' ] || { echo "the behaviour changed" >&2; exit 1; }

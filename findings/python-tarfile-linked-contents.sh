#!/usr/bin/env bash
# What:        a PAX archive in which a hard link carries the file's contents, which POSIX allows in this
#              format (so that the link can be restored alone)
# Behaviour:   tarfile takes the link's contents for the next header, finds it is none, and takes that for
#              the end of the archive: no error, and what follows is missing. node-tar reads all of it.
# Version:     backports.tarfile 1.2.0 (the module of CPython 3.12), tar (npm) 7.5.23
# Output seen: tarfile: file link   node-tar: after file link
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input backports.tarfile==1.2.0; } || exit 3
npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 >/dev/null || exit 3
v/bin/python - <<'P'
from backports import tarfile

def entry(name, kind, text, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(text)
    info.pax_headers = {"comment": name}
    return info.tobuf(tarfile.PAX_FORMAT) + text.ljust(512, b"\0")

with open("links.tar", "wb") as out:
    out.write(entry("file", tarfile.REGTYPE, b"text\n"))
    out.write(entry("link", tarfile.LNKTYPE, b"text\n", "file"))
    out.write(entry("after", tarfile.REGTYPE, b"more\n"))
    out.write(b"\0" * 1024)
P
mkdir py node
v/bin/python -c 'from backports import tarfile; tarfile.open("links.tar").extractall("py", filter="data")'
node -e "require('./node_modules/tar').x({file: 'links.tar', cwd: 'node', sync: true})"
py=$(echo $(ls py)) node=$(echo $(ls node))
echo "tarfile: $py   node-tar: $node"
[ "$py" = "file link" ] && [ "$node" = "after file link" ] || { echo "the behaviour changed" >&2; exit 1; }

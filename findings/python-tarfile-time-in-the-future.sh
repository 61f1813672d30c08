#!/usr/bin/env bash
# What:        a file changed in the last nanoseconds of a second (mtime .999999999), in a PAX archive
# Behaviour:   tarfile reads PAX times as floating point numbers, and 1700000000.999999999 has no such
#              number: the file comes back dated a whole second later than it is, at .000000000. A file
#              can so be newer than what was made from it, and be built again.
# Version:     backports.tarfile 1.2.0 (the module of CPython 3.12)
# Output seen: in: 1700000000.999999999   out: 1700000001.000000000
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input backports.tarfile==1.2.0; } || exit 3
touch -d @1700000000.999999999 file
tar --format=posix -cf file.tar file
mkdir out
v/bin/python -c 'from backports import tarfile; tarfile.open("file.tar").extractall("out", filter="data")'
in=$(stat -c %.9Y file) out=$(stat -c %.9Y out/file)
echo "in: $in   out: $out"
[ "$out" = 1700000001.000000000 ] || { echo "the behaviour changed" >&2; exit 1; }

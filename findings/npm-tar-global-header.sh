#!/usr/bin/env bash
# What:        a PAX archive with a global header (`mtime`, for all entries) and one entry that has its
#              own extended header with another `mtime`
# Behaviour:   POSIX: an entry's own record overrides the global one. node-tar lets the global record win.
# Version:     tar (npm) 7.5.23; GNU tar of this machine for comparison
# Output seen: GNU tar: 6000   node-tar: 5000
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 >/dev/null || exit 3
echo text >file
tar --format=posix --pax-option='mtime=5000,delete=atime,delete=ctime' -cf global.tar -T /dev/null
tar --format=posix --pax-option='delete=atime,delete=ctime' --mtime=@6000.5 -cf own.tar file
# The global header is two blocks; the other archive follows it.
{ head -c 1024 global.tar; cat own.tar; } >both.tar
mkdir gnu npm
tar -C gnu -xf both.tar
node -e "require('./node_modules/tar').x({file: 'both.tar', cwd: 'npm', sync: true})"
gnu=$(stat -c %Y gnu/file) npm=$(stat -c %Y npm/file)
echo "GNU tar: $gnu   node-tar: $npm"
[ "$gnu $npm" = "6000 5000" ] || { echo "the behaviour changed" >&2; exit 1; }

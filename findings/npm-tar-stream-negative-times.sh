#!/usr/bin/env bash
# What:        an archive of GNU tar with a file that was changed 10 seconds before 1970 (a binary number
#              in the header, as for all that does not fit octal digits)
# Behaviour:   tar-stream reads negative numbers one too high: -9, since it takes them for ones'
#              complement. What it extracts (tar-fs) and what it repacks has another time.
# Version:     tar-stream 3.2.2
# Output seen: GNU tar: -10   tar-stream: -9
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . tar-stream@3.2.2 >/dev/null || exit 3
touch -d @-10 file; tar --format=gnu -cf old.tar file
mkdir gnu; tar -C gnu -xf old.tar 2>/dev/null
gnu=$(stat -c %Y gnu/file)
npm=$(node -e "
const extract = require('./node_modules/tar-stream').extract();
extract.on('entry', (header, stream, next) => { console.log(header.mtime.getTime() / 1000); stream.resume(); next(); });
require('fs').createReadStream('old.tar').pipe(extract);")
echo "GNU tar: $gnu   tar-stream: $npm"
[ "$gnu $npm" = "-10 -9" ] || { echo "the behaviour changed" >&2; exit 1; }

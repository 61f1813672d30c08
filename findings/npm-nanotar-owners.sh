#!/usr/bin/env bash
# What:        a file of uid 1000 and gid 100 in an archive of GNU tar
# Behaviour:   numbers in tar headers are octal text. nanotar reads sizes and times so, but owners as if
#              they were decimal: 1000 (0001750) becomes 1750, 100 (0000144) becomes 144.
# Version:     nanotar 0.3.0
# Output seen: GNU tar: 1000/100   nanotar: 1750/144
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . nanotar@0.3.0 >/dev/null || exit 3
echo text >file; tar --numeric-owner --owner=:1000 --group=:100 -cf owner.tar file
gnu=$(tar --numeric-owner -tvf owner.tar | awk '{print $2}')
read=$(node --input-type=module -e "
import { parseTar } from 'nanotar';
import { readFileSync } from 'fs';
const { uid, gid } = parseTar(readFileSync('owner.tar'))[0].attrs;
console.log(uid + '/' + gid);")
echo "GNU tar: $gnu   nanotar: $read"
[ "$gnu $read" = "1000/100 1750/144" ] || { echo "the behaviour changed" >&2; exit 1; }

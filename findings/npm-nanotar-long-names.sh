#!/usr/bin/env bash
# What:        an archive in the POSIX format with a name of more than 100 bytes that has a space in it
# Behaviour:   nanotar cuts the name at the first space (a record of a PAX header is "length key=value",
#              and it splits the whole line at spaces). Names below 100 bytes keep theirs.
# Version:     nanotar 0.3.0
# Output seen: .../my document.txt is read as .../my
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . nanotar@0.3.0 >/dev/null || exit 3
dir=$(printf 'd%.0s' {1..95}); mkdir "$dir"; echo text >"$dir/my document.txt"
tar --format=posix -cf long.tar "$dir/my document.txt"
name=$(node --input-type=module -e "
import { parseTar } from 'nanotar';
import { readFileSync } from 'fs';
console.log(parseTar(readFileSync('long.tar'))[0].name);")
echo "in the archive: $(tar -tf long.tar)"; echo "read:           $name"
[ "$name" = "$dir/my" ] || { echo "the behaviour changed" >&2; exit 1; }

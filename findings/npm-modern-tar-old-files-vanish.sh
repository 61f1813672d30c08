#!/usr/bin/env bash
# What:        an archive of GNU tar with a file of 1969 (a binary number in its header) between two others
# Behaviour:   modern-tar lists and extracts the others and leaves that one out, without an error or a
#              warning. Times after 1970 in the same binary form are read.
# Version:     modern-tar 0.8.6
# Output seen: in the archive: a b c   read: a c
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . modern-tar@0.8.6 >/dev/null || exit 3
touch a b c; touch -d @-10 b; tar --format=gnu -cf old.tar a b c
read=$(node --input-type=module -e "
import { unpackTar } from 'modern-tar';
import { readFileSync } from 'fs';
console.log((await unpackTar(readFileSync('old.tar'))).map(entry => entry.header.name).join(' '));")
echo "in the archive: $(echo $(tar -tf old.tar))   read: $read"
[ "$read" = "a c" ] || { echo "the behaviour changed" >&2; exit 1; }

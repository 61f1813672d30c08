#!/usr/bin/env bash
# What:        an archive to which a newer version of a file was added (`tar -r`)
# Behaviour:   all tools restore the last one; modern-tar's file system reader restores the first one
#              and drops the newer one without a word.
# Version:     modern-tar 0.8.6
# Output seen: GNU tar: new   modern-tar: old
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . modern-tar@0.8.6 >/dev/null || exit 3
echo old >file; tar -cf update.tar file; echo new >file; tar -rf update.tar file
mkdir gnu npm; tar -C gnu -xf update.tar
node --input-type=module -e "
import { unpackTar } from 'modern-tar/fs';
import { createReadStream } from 'fs';
import { pipeline } from 'stream/promises';
await pipeline(createReadStream('update.tar'), unpackTar('npm'));"
echo "GNU tar: $(cat gnu/file)   modern-tar: $(cat npm/file)"
[ "$(cat gnu/file) $(cat npm/file)" = "new old" ] || { echo "the behaviour changed" >&2; exit 1; }

#!/usr/bin/env bash
# What:        a file of 64 MiB of zeros (a fresh disk image) packed by `tar -czf`, unpacked by node-tar
# Behaviour:   node-tar stops at a ratio of 1000 to 1 between packed and unpacked bytes and throws, having
#              written most of the file. gzip itself reaches 1030 to 1 on zeros, so ordinary archives of
#              sparse files are over the limit; the option is called maxDecompressionRatio.
# Version:     tar (npm) 7.5.23
# Output seen: max decompression ratio exceeded: 1000.04 > 1000
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 >/dev/null || exit 3
truncate -s 64M disk; tar -czf disk.tar.gz disk; mkdir out
said=$(node -e "
require('./node_modules/tar').x({file: 'disk.tar.gz', cwd: 'out'}).then(() => console.log('unpacked'), e => console.log(e.message))")
echo "$said"
case $said in "max decompression ratio exceeded: "*) ;; *) echo "the behaviour changed" >&2; exit 1 ;; esac

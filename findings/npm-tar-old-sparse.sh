#!/usr/bin/env bash
# What:        a file with holes packed by `tar -S`, in GNU's own format (the default of GNU tar)
# Behaviour:   node-tar leaves the file out. The call succeeds; only a listener of `warn` would hear that a
#              kind of entry is unsupported. The file after it is there.
# Version:     tar (npm) 7.5.23
# Output seen: in the archive: disk after   unpacked: after
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 >/dev/null || exit 3
truncate -s 1M disk; echo end >>disk; echo text >after
tar -S --format=gnu -cf sparse.tar disk after
mkdir out
node -e "require('./node_modules/tar').x({file: 'sparse.tar', cwd: 'out', sync: true})"
echo "in the archive: $(echo $(tar -tf sparse.tar))   unpacked: $(echo $(ls out))"
[ "$(echo $(ls out))" = after ] || { echo "the behaviour changed" >&2; exit 1; }

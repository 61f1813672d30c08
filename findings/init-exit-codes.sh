#!/usr/bin/env bash
# What:        the small programs that images start as process 1, told to run a program that is not there and a file
#              that is not executable
# Behaviour:   shells, env and container engines end with 127 and 126 for these, and so does tini, and who runs an
#              image tells by that a wrong command from a failed program. dumb-init ends with 2 and catatonit
#              with 1, as many programs do that did run.
# Version:     tini 0.19.0-1+b3, dumb-init 1.2.5-2, catatonit 0.1.7-1+b2
# Output seen: tini: 127 126   dumb-init: 2 2   catatonit: 1 1
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb tini=0.19.0-1+b3 dumb-init=1.2.5-2 catatonit=0.1.7-1+b2
echo text >plain; chmod 644 plain
code() { unshare --fork --pid --kill-child "$@" >/dev/null 2>&1 && echo 0 || echo $?; }
seen=
for init in tini dumb-init catatonit; do
  seen+="$init: $(code deb/usr/bin/$init -- "$tmp/missing") $(code deb/usr/bin/$init -- "$tmp/plain")   "
done
echo "$seen"
[ "$seen" = "tini: 127 126   dumb-init: 2 2   catatonit: 1 1   " ] || { echo "the behaviour changed" >&2; exit 1; }

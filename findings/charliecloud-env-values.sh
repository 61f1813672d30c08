#!/usr/bin/env bash
# What:        ENV instructions in a Dockerfile, built by Charliecloud's ch-image: a variable that is set and used in
#              one line, a dollar sign in single quotes, and an escaped dollar sign
# Behaviour:   in Docker all values of an instruction are worked out before any of them is set, single quotes
#              keep what is in them and go away, and a backslash makes a dollar sign plain. ch-image sets the
#              variables one after the other, keeps single quotes and replaces what is in them, and keeps the
#              backslash.
# Version:     charliecloud-builders 0.31-1
# Output seen: A=2 B=2 C='2' D=\$A   (by Docker's rules: A=2 B=1 C=$A D=$A)
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb charliecloud-builders=0.31-1 charliecloud-common=0.31-1 charliecloud-runtime=0.31-1
{ python3 -m venv v && v/bin/pip -q install --no-input lark==1.1.5 requests==2.32.3; } || exit 3
mkdir context
cat >context/Dockerfile <<'D'
FROM scratch
ENV A=1
ENV A=2 B=$A
ENV C='$A' D=\$A
D
USER=root v/bin/python deb/usr/bin/ch-image -s "$tmp/store" --no-cache build -t image -f context/Dockerfile context >/dev/null 2>&1
seen=$(echo $(cat store/img/image/ch/environment))
echo "$seen"
[ "$seen" = "A=2 B=2 C='2' D=\\\$A" ] || { echo "the behaviour changed" >&2; exit 1; }

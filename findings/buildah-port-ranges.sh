#!/usr/bin/env bash
# What:        `EXPOSE 8000-8002/udp` in a Dockerfile, built by buildah
# Behaviour:   Docker's builders put one key for each port into the image's config. buildah puts the range
#              in as one key, "8000-8002/udp", which is no port to whoever reads the config.
# Version:     buildah 1.28.2+ds1-3+deb12u1+b3
# Output seen: 8000-8002/udp
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb buildah=1.28.2+ds1-3+deb12u1+b3 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2 libsubid4=1:4.13+dfsg1-1+deb12u2
buildah() {
  LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/buildah" \
    --storage-driver vfs --root "$tmp/store" --runroot "$tmp/run" "$@"
}
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >policy.json
mkdir context; printf 'FROM scratch\nEXPOSE 8000-8002/udp\n' >context/Dockerfile
buildah build -q --signature-policy policy.json -t image context >/dev/null
ports=$(buildah inspect --type image image |
  python3 -c 'import json, sys; print(*json.load(sys.stdin)["OCIv1"]["config"]["ExposedPorts"])')
echo "$ports"
[ "$ports" = "8000-8002/udp" ] || { echo "the behaviour changed" >&2; exit 1; }

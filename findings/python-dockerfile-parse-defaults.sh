#!/usr/bin/env bash
# What:        a FROM whose tag has a default (`${V:-3}`), read by dockerfile-parse
# Behaviour:   without the argument the default should be taken, with it the argument. The package puts the
#              value in front of the rest of the braces: `alpine:1:-3}` is called the base image.
# Version:     dockerfile-parse 2.0.1
# Output seen: given: alpine:1:-3}   (alpine:1 by Docker's rules)
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input dockerfile-parse==2.0.1; } || exit 3
v/bin/python - <<'P'
import io, sys
from dockerfile_parse import DockerfileParser

parser = DockerfileParser(fileobj=io.BytesIO(b"ARG V=1\nFROM alpine:${V:-3}\n"))
print("given:", parser.baseimage)
sys.exit(0 if parser.baseimage == "alpine:1:-3}" else "the behaviour changed")
P

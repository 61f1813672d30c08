#!/usr/bin/env bash
# What:        a client configuration (config.json) with one good entry, and beside it forms that Docker's
#              own client puts up with: an entry of another registry without a colon, and one that has
#              `username` and `password` in place of `auth`
# Behaviour:   Python's docker package decodes all entries at once: an entry of a registry that is not
#              asked for raises a ValueError of tuple unpacking, and no credentials are found for any. The
#              user name and password in clear are taken for no credentials, silently.
# Version:     docker (PyPI) 7.2.0
# Output seen: other entry: ValueError   clear: {}   good: user
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input docker==7.2.0; } || exit 3
v/bin/python - <<'P'
import base64, json, sys
from docker import auth

def found(auths, registry="good.example:5000"):
    with open("config.json", "w") as file:
        json.dump({"auths": auths}, file)
    try:
        return auth.load_config("config.json").resolve_authconfig(registry)
    except ValueError as error:
        return type(error).__name__

coded = lambda text: {"auth": base64.b64encode(text).decode()}
good = {"good.example:5000": coded(b"user:secret")}
other = found(good | {"other.example": coded(b"user")})
clear = found({"good.example:5000": {"username": "user", "password": "secret"}})
plain = found(good).get("username")
print("other entry:", other, "  clear:", clear, "  good:", plain)
sys.exit(0 if (other, clear, plain) == ("ValueError", {}, "user") else "the behaviour changed")
P

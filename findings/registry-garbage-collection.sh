#!/usr/bin/env bash
# What:        a registry with an index under the tag `x` that names an image by digest (each image of several
#              platforms is kept so), and `garbage-collect --delete-untagged` run on its storage
# Behaviour:   the image has no tag of its own and is taken for untagged, although a tagged index names it: it
#              is deleted with its config and layers. The tag `x` and its index stay, and nobody can pull
#              them.
# Version:     docker-registry 2.8.2+ds1-1
# Output seen: before: index 200, image 200   after: index 200, image 404
set -euo pipefail
tmp=$(mktemp -d); server=; trap 'kill $server 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb docker-registry=2.8.2+ds1-1
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >config.yml <<Y
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $tmp/data}}
http: {addr: "127.0.0.1:$port"}
Y
cat >client.py <<'P'
import hashlib, json, sys, time, urllib.error, urllib.request
base = f"http://127.0.0.1:{sys.argv[1]}/v2/"
OCI = "application/vnd.oci."
def ask(method, url, data=None, **headers):
    headers = {"Content-Type": "application/octet-stream", **headers}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method))
    except urllib.error.HTTPError as error:
        return error
def describe(kind, data):
    return {"mediaType": OCI + kind, "size": len(data), "digest": "sha256:" + hashlib.sha256(data).hexdigest()}
def blob(kind, data):
    entry = describe(kind, data)
    place = ask("POST", base + "r/blobs/uploads/", b"").headers["Location"]
    assert ask("PUT", place + "&digest=" + entry["digest"], data).status == 201
    return entry
def manifest(kind, name=None, **fields):
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI + kind, **fields}).encode()
    entry = describe(kind, data)
    assert ask("PUT", base + "r/manifests/" + (name or entry["digest"]), data, **{"Content-Type": OCI + kind}).status == 201
    return entry
for _ in range(100):
    try:
        ask("GET", base); break
    except urllib.error.URLError:
        time.sleep(0.1)
if sys.argv[2:]:
    image = manifest("image.manifest.v1+json", config=blob("image.config.v1+json", b"{}"),
                     layers=[blob("image.layer.v1.tar", bytes(1024))])
    manifest("image.index.v1+json", "x", manifests=[image])
    open("digest", "w").write(image["digest"])
accept = {"Accept": f"{OCI}image.index.v1+json, {OCI}image.manifest.v1+json"}
index, image = (ask("GET", base + "r/manifests/" + name, **accept).status for name in ("x", open("digest").read()))
print(f"index {index}, image {image}")
P
serve() { deb/usr/bin/docker-registry serve config.yml >/dev/null 2>&1 & server=$!; }
stop() { kill "$server"; wait "$server" 2>/dev/null || true; }
serve; before=$(python3 client.py "$port" push); stop
deb/usr/bin/docker-registry garbage-collect --delete-untagged config.yml >/dev/null 2>&1
serve; after=$(python3 client.py "$port"); stop
seen="before: $before   after: $after"
echo "$seen"
[ "$seen" = "before: index 200, image 200   after: index 200, image 404" ] || { echo "the behaviour changed" >&2; exit 1; }

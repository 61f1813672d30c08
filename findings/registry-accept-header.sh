#!/usr/bin/env bash
# What:        tags of a registry that hold Docker manifest lists and an OCI index, asked for with `Accept: */*`
#              (or without the header: what an HTTP client sends that nobody told otherwise)
# Behaviour:   "anything" is not taken at its word. Of a list the registry picks the image for linux/amd64 and
#              makes a manifest of the old format, schema 1, out of it, which nobody has pushed; a list
#              without amd64 is answered with 404 and "manifest unknown", though the tag is there. An OCI
#              index is a 404 too.
# Version:     docker-registry 2.8.2+ds1-1
# Output seen: amd64 and arm64: 200 schema 1 amd64   arm64: 404   index: 404   list asked for by its type: 200 schema 2
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
deb/usr/bin/docker-registry serve config.yml >/dev/null 2>&1 & server=$!
python3 - "$port" <<'P'
import gzip, hashlib, json, sys, time, urllib.error, urllib.request
base = f"http://127.0.0.1:{sys.argv[1]}/v2/"
DOCKER, OCI = "application/vnd.docker.", "application/vnd.oci."
LIST = DOCKER + "distribution.manifest.list.v2+json"
def ask(method, url, data=None, **headers):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method))
    except urllib.error.HTTPError as error:
        return error
def put(place, kind, data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    assert ask("PUT", place.format(digest), data, **{"Content-Type": kind}).status == 201
    return {"mediaType": kind, "size": len(data), "digest": digest}
def blob(kind, data):
    return put(ask("POST", base + "r/blobs/uploads/", b"").headers["Location"] + "&digest={}", kind, data)
def manifest(kind, name="{}", **fields):
    return put(base + "r/manifests/" + name, kind, json.dumps({"schemaVersion": 2, "mediaType": kind, **fields}).encode())
for _ in range(100):
    try:
        ask("GET", base); break
    except urllib.error.URLError:
        time.sleep(0.1)
layer = bytes(1024)
def image(machine):
    config = {"architecture": machine, "os": "linux", "config": {}, "history": [{"created_by": "x"}],
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}
    entry = manifest(DOCKER + "distribution.manifest.v2+json",
                     config=blob(DOCKER + "container.image.v1+json", json.dumps(config).encode()),
                     layers=[blob(DOCKER + "image.rootfs.diff.tar.gzip", gzip.compress(layer, mtime=0))])
    return {**entry, "platform": {"os": "linux", "architecture": machine}}
manifest(LIST, "both", manifests=[image("amd64"), image("arm64")])
manifest(LIST, "arm64", manifests=[image("arm64")])
manifest(OCI + "image.index.v1+json", "index", manifests=[image("amd64")])
def get(name, accept):
    answer = ask("GET", base + "r/manifests/" + name, Accept=accept)
    if answer.status != 200:
        return answer.status
    found = json.load(answer)
    return " ".join(str(word) for word in (200, "schema", found["schemaVersion"], found.get("architecture", ""))).strip()
seen = (f"amd64 and arm64: {get('both', '*/*')}   arm64: {get('arm64', '*/*')}   index: {get('index', '*/*')}   "
        f"list asked for by its type: {get('both', LIST)}")
print(seen)
sys.exit(0 if seen == "amd64 and arm64: 200 schema 1 amd64   arm64: 404   index: 404   "
         "list asked for by its type: 200 schema 2" else "the behaviour changed")
P

#!/usr/bin/env bash
# What:        an image in Docker's format whose config has a Healthcheck, OnBuild, Shell and StopTimeout, copied
#              by skopeo into an OCI layout and back
# Behaviour:   the config is read into the fields that the OCI specification describes, and written again from
#              them: the four are gone, without a word, and the image has another ID. (BuildKit writes the
#              same fields into OCI images, and Docker reads them there; skopeo copies such an image as it
#              is, since its format does not change.)
# Version:     skopeo 1.9.3+ds1-1+b10
# Output seen: docker: Cmd Healthcheck OnBuild Shell StopTimeout   oci: Cmd   docker again: Cmd
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 libdevmapper1.02.1=2:1.02.185-2
copy() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) deb/usr/bin/skopeo --insecure-policy copy -q "$@"; }
mkdir docker; echo text >file; tar -cf layer.tar file
python3 - <<'P'
import hashlib, json
DOCKER = "application/vnd.docker."
def blob(kind, data):
    digest = hashlib.sha256(data).hexdigest()
    open("docker/" + digest, "wb").write(data)
    return {"mediaType": DOCKER + kind, "size": len(data), "digest": "sha256:" + digest}
layer = blob("image.rootfs.diff.tar", open("layer.tar", "rb").read())
config = {"Cmd": ["/run"], "Healthcheck": {"Test": ["CMD", "/ok"]}, "OnBuild": ["COPY . /"], "Shell": ["/sh"], "StopTimeout": 5}
image = {"architecture": "amd64", "os": "linux", "config": config,
         "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
json.dump({"schemaVersion": 2, "mediaType": DOCKER + "distribution.manifest.v2+json",
           "config": blob("container.image.v1+json", json.dumps(image).encode()), "layers": [layer]},
          open("docker/manifest.json", "w"))
open("docker/version", "w").write("Directory Transport Version: 1.1\n")
P
copy dir:docker oci:layout:x
copy oci:layout:x dir:oci
copy --format v2s2 oci:layout:x dir:again
fields() {
  python3 -c 'import json, sys
folder = sys.argv[1] + "/"
digest = json.load(open(folder + "manifest.json"))["config"]["digest"].split(":")[1]
print(*sorted(json.load(open(folder + digest))["config"]))' "$1"
}
seen="docker: $(fields docker)   oci: $(fields oci)   docker again: $(fields again)"
echo "$seen"
[ "$seen" = "docker: Cmd Healthcheck OnBuild Shell StopTimeout   oci: Cmd   docker again: Cmd" ] ||
  { echo "the behaviour changed" >&2; exit 1; }

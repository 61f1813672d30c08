#!/usr/bin/env bash
# What:        an image in the form of `docker save`, loaded and unpacked by udocker: a folder app/dev with a file;
#              and a second layer that removes a file of the root directory and one of /etc
# Behaviour:   udocker unpacks with GNU tar and the patterns `--exclude=dev/*`, meant for /dev, and `*/.wh.*` for
#              whiteouts. Patterns of --exclude match at any depth, so every folder called `dev` in the image
#              comes out empty; the other one wants a slash in front, so a whiteout in the root directory,
#              which image builders write as `.wh.NAME`, removes nothing. The container is created, and the
#              exit code is 0.
# Version:     udocker 1.3.17
# Output seen: app/main etc/kept removed   (by Docker's rules: app/dev/settings app/main etc/kept)
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input udocker==1.3.17; } || exit 3
mkdir -p lower/app/dev lower/etc upper/etc image/1 image/2
for file in app/dev/settings app/main etc/kept etc/removed removed; do echo text >lower/$file; done
: >upper/.wh.removed; : >upper/etc/.wh.removed
tar -C lower -cf image/1/layer.tar app etc removed
tar -C upper -cf image/2/layer.tar .wh.removed etc
python3 - <<'P'
import hashlib, json
for layer, more in ("1", {}), ("2", {"parent": "1"}):
    json.dump({"id": layer, **more}, open(f"image/{layer}/json", "w"))
    open(f"image/{layer}/VERSION", "w").write("1.0")
sums = ["sha256:" + hashlib.sha256(open(f"image/{layer}/layer.tar", "rb").read()).hexdigest() for layer in "12"]
json.dump({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": sums}},
          open("image/config.json", "w"))
json.dump([{"Config": "config.json", "RepoTags": ["name:1"], "Layers": ["1/layer.tar", "2/layer.tar"]}],
          open("image/manifest.json", "w"))
json.dump({"name": {"1": "2"}}, open("image/repositories", "w"))
P
tar -C image -cf image.tar 1 2 config.json manifest.json repositories
printf '[DEFAULT]\nautoinstall = False\n' >udocker.conf
udocker() { HOME=$tmp UDOCKER_DIR=$tmp/u v/bin/udocker --allow-root --config=udocker.conf "$@" >/dev/null 2>&1; }
udocker load -i image.tar
udocker create name:1
seen=$(cd u/containers/*/ROOT && echo $(find . -type f -printf '%P\n' | sort))
echo "$seen"
[ "$seen" = "app/main etc/kept removed" ] || { echo "the behaviour changed" >&2; exit 1; }

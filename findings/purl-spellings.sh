#!/usr/bin/env bash
# What:        package URLs, which SBOMs name packages by, written from the same parts by the package-url
#              project's libraries for Python and for JavaScript, and one read by both
# Behaviour:   the texts differ where Debian's and Go's versions have `+` and where an image's repository_url has
#              a slash: one library leaves them, the other writes %2B or %2F, and the other way round. Who
#              joins two SBOMs by these texts finds no pair. A `+` in a qualifier is a plus for Python and a
#              space for JavaScript.
# Version:     packageurl-python 0.17.6, packageurl-js 2.0.1
# Output seen: the table that it prints
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input packageurl-python==0.17.6; } || exit 3
npm install --silent --no-audit --no-fund --prefix . packageurl-js@2.0.1 >/dev/null || exit 3
cat >parts.json <<'J'
[["deb", "debian", "git", "1:2.39.5-0+deb12u5", null],
 ["golang", "example.com", "module", "v1.0.0+incompatible", null],
 ["oci", null, "image", "sha256:0", {"repository_url": "host.example/team/image"}]]
J
read=pkg:generic/tool@1?note=a+b
v/bin/python - $read >python.txt <<'P'
import json, sys
from packageurl import PackageURL
for parts in json.load(open("parts.json")):
    print(PackageURL(*parts).to_string())
print(PackageURL.from_string(sys.argv[1]).qualifiers["note"])
P
node --input-type=module - $read >js.txt <<'J'
import { PackageURL } from 'packageurl-js'; import fs from 'fs';
for (const parts of JSON.parse(fs.readFileSync('parts.json'))) console.log(new PackageURL(...parts).toString());
console.log(PackageURL.fromString(process.argv[2]).qualifiers.note);
J
paste -d'|' python.txt js.txt | sed 's/|/   /' | tee seen.txt
diff seen.txt - <<'T' || { echo "the behaviour changed" >&2; exit 1; }
pkg:deb/debian/git@1:2.39.5-0%2Bdeb12u5   pkg:deb/debian/git@1:2.39.5-0+deb12u5
pkg:golang/example.com/module@v1.0.0%2Bincompatible   pkg:golang/example.com/module@v1.0.0+incompatible
pkg:oci/image@sha256:0?repository_url=host.example/team/image   pkg:oci/image@sha256:0?repository_url=host.example%2Fteam%2Fimage
a+b   a b
T

#!/usr/bin/env bash
# What:        names of images as Docker takes them, given to docker-parse-image: one with a digest, one of a registry
#              with a port and a path of three parts, and one as podman calls what it built
# Behaviour:   it knows no digests and at most two parts of a path. A digest becomes a tag behind a colon, which no
#              client takes; with a longer path the registry's port and the whole path are the "tag" of
#              library/HOST; and localhost is no registry but a user of Docker's. It throws for none of them.
# Version:     docker-parse-image 3.0.1
# Output seen: the table that it prints
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . docker-parse-image@3.0.1 >/dev/null || exit 3
node -e "
const parse = require('docker-parse-image');
const digest = 'sha256:' + '0'.repeat(64);
// Each name, and the registry, repository and tag that are seen for it
const rows = [
  ['host.example:5000/team/app:1', 'host.example:5000 app 1'],
  ['host.example:5000/team/group/app:1', 'null host.example 5000/team/group/app:1'],
  ['localhost/app:1', 'null app 1'],
  ['alpine@' + digest, 'null alpine ' + digest],
];
let changed = false;
for (const [name, expected] of rows) {
  const { registry, repository, tag, fullname } = parse(name);
  const short = text => text.replace(digest, 'sha256:0...');
  console.log(short(name).padEnd(35), 'registry', String(registry).padEnd(17), 'full name', short(fullname));
  changed ||= [registry, repository, tag].join(' ').replace(/^ /, 'null ') !== expected;
}
if (changed) { console.error('the behaviour changed'); process.exit(1); }"

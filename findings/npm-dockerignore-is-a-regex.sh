#!/usr/bin/env bash
# What:        names with round brackets or a plus sign in a .dockerignore, as some web frameworks want them
#              for folders, through @balena/dockerignore
# Behaviour:   Docker's patterns know only * ? [ ] and backslash. This package hands brackets and plus signs
#              on to a regular expression: `(auth)` leaves out the folder `auth` and keeps `(auth)`;
#              `c++` keeps `c++`... and `a+` leaves out `a`.
# Version:     @balena/dockerignore 1.0.2
# Output seen: (auth): kept (auth)/page, left out auth/page.  a+: kept a+/f, left out a/f and aa/f
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . @balena/dockerignore@1.0.2 >/dev/null || exit 3
node - <<'J'
const ignore = require('./node_modules/@balena/dockerignore');
const files = ['(auth)/page', 'auth/page', 'a+/f', 'a/f', 'aa/f'];
let changed = false;
for (const [pattern, expected] of [['(auth)', 'auth/page'], ['a+', 'a/f aa/f']]) {
  const kept = ignore().add(pattern).filter(files);
  const gone = files.filter(f => !kept.includes(f)).join(' ');
  console.log(`${pattern}: left out ${gone}`);
  changed = changed || gone !== expected;
}
if (changed) { console.error('the behaviour changed'); process.exit(1); }
J

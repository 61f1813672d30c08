#!/usr/bin/env bash
# What:        a gzip file of two members (as `cat a.gz b.gz` or a parallel compressor makes it), and the
#              longer member first, given to fflate's gunzipSync
# Behaviour:   the size of the result is taken from the last four bytes of the file, which is the last
#              member's size. The text is cut, or filled up, to that size, without an error; the
#              streaming Gunzip of the same package gives everything.
# Version:     fflate 0.8.3
# Output seen: gunzipSync: "the fi"
#              Gunzip:     "the first member is long\nshort\n"
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . fflate@0.8.3 >/dev/null || exit 3
{ printf 'the first member is long\n' | gzip -n; printf 'short\n' | gzip -n; } >members.gz
node - <<'J'
const fs = require('fs'), { gunzipSync, Gunzip } = require('./node_modules/fflate');
const data = fs.readFileSync('members.gz');
const whole = Buffer.from(gunzipSync(data)).toString();
const parts = [];
new Gunzip(chunk => parts.push(Buffer.from(chunk))).push(data, true);
const streamed = Buffer.concat(parts).toString();
console.log('gunzipSync:', JSON.stringify(whole));
console.log('Gunzip:    ', JSON.stringify(streamed));
if (whole !== 'the fi' || streamed !== 'the first member is long\nshort\n') {
  console.error('the behaviour changed');
  process.exit(1);
}
J

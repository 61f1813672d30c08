#!/usr/bin/env bash
# What:        Dockerfiles with a flag before a here-document, with a JSON array that has a space in a name, with
#              an indented here-document of RUN, and with ENV in its old form, given to the formatter dockerfmt
# Behaviour:   it changes what they mean, not only their looks: the flag is dropped; the array becomes words, so
#              that two sources are copied and not one; the text that the here-document writes loses its
#              indentation; and `ENV A b c`, whose value is "b c", becomes A=b and a word that is an error.
# Version:     @reteps/dockerfmt 0.5.4
# Output seen: COPY <<"EOF" /run.sh   COPY my file /to/   a: b   ENV A=b c
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . @reteps/dockerfmt@0.5.4 >/dev/null || exit 3
cat >format.mjs <<'J'
import { formatDockerfileContents } from '@reteps/dockerfmt';
const files = [
  ['COPY --chmod=755 <<"EOF" /run.sh\n#!/bin/sh\nEOF\n', 1, 'COPY <<"EOF" /run.sh'],
  ['COPY ["my file", "/to/"]\n', 1, 'COPY my file /to/'],
  ['RUN cat <<EOF >/config\n  a: b\nEOF\n', 2, 'a: b'],
  ['ENV A b c\n', 1, 'ENV A=b c'],
];
let changed = false;
for (const [text, line, expected] of files) {
  const options = { indent: 4, trailingNewline: true, spaceRedirects: false };
  const formatted = await formatDockerfileContents('FROM scratch\n' + text, options);
  const seen = formatted.split('\n')[line];
  console.log(JSON.stringify(text.split('\n')[line - 1]).padEnd(36), '->', JSON.stringify(seen));
  changed ||= seen !== expected;
}
if (changed) { console.error('the behaviour changed'); process.exit(1); }
J
node format.mjs

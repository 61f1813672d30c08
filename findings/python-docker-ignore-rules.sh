#!/usr/bin/env bash
# What:        the .dockerignore rules of Python's docker package (it decides what `client.images.build`
#              sends), with patterns that Docker documents as those of Go's filepath.Match
# Behaviour:   they are Python's fnmatch: letters of either case match each other; [^x] is no negation but
#              a set of `^` and x, and [!x] is the negation; a backslash escapes nothing; an exception
#              below a directory that a wildcard took out (`**/out` with `!**/out/keep`) has no effect.
# Version:     docker (PyPI) 7.2.0
# Output seen: see the table that it prints: wanted (by Docker's rules) beside seen
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input docker==7.2.0; } || exit 3
mkdir -p tree/src/out; for f in Readme readme x.txt y.txt '[x].txt' src/out/keep src/out/drop; do echo >"tree/$f"; done
v/bin/python - <<'P'
import os, sys
from docker.utils.build import exclude_paths

everything = {"Readme", "readme", "x.txt", "y.txt", "[x].txt", "src/out/keep", "src/out/drop"}

def left_out(*patterns):
    return everything - {p for p in exclude_paths("tree", list(patterns)) if os.path.isfile(f"tree/{p}")}

cases = [  # patterns, what Docker leaves out, what this package leaves out
    (["read??"], {"readme"}, {"readme", "Readme"}),
    (["[^x].txt"], {"y.txt"}, {"x.txt"}),
    (["[!x].txt"], {"x.txt"}, {"y.txt"}),
    ([r"\[x\].txt"], {"[x].txt"}, set()),
    (["**/out", "!**/out/keep"], {"src/out/drop"}, {"src/out/drop", "src/out/keep"}),
]
changed = False
for patterns, docker, expected in cases:
    seen = left_out(*patterns)
    print(patterns, "left out:", sorted(seen), "by Docker's rules:", sorted(docker))
    changed |= seen != expected
sys.exit("the behaviour changed" if changed else 0)
P

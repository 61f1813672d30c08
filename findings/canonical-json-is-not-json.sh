#!/usr/bin/env bash
# What:        metadata with a line break in a text and with a fraction, made into "canonical JSON", the form whose
#              bytes are signed in in-toto layouts and TUF repositories, by the libraries for Python and npm
# Behaviour:   the form escapes only quotation marks and backslashes. A line break stays as it is, and JSON parsers
#              refuse the result; there are no fractions, and both libraries throw. So the signed bytes cannot
#              be kept and parsed later: they are made from the parsed document again. (RFC 8785, the other
#              "canonical JSON", has neither trait.)
# Version:     securesystemslib 1.6.0, @tufjs/canonical-json 2.0.0
# Output seen: python: '{"note":"a\nb"}' is no JSON, fraction: FormatError
#              npm: '{"note":"a\nb"}' is no JSON, fraction: TypeError
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input securesystemslib==1.6.0; } || exit 3
npm install --silent --no-audit --no-fund --prefix . @tufjs/canonical-json@2.0.0 >/dev/null || exit 3
python=$(v/bin/python - <<'P'
import json
from securesystemslib.formats import encode_canonical
text = encode_canonical({"note": "a\nb"})
try:
    json.loads(text); print(repr(text), "is JSON", end=", ")
except ValueError:
    print(repr(text), "is no JSON", end=", ")
try:
    print("fraction:", encode_canonical({"part": 1.5}))
except Exception as error:
    print("fraction:", type(error).__name__)
P
)
npm=$(node -e "
const { canonicalize } = require('@tufjs/canonical-json');
const text = canonicalize({ note: 'a\nb' });
let kind = 'is JSON';
try { JSON.parse(text); } catch { kind = 'is no JSON'; }
let fraction;
try { fraction = canonicalize({ part: 1.5 }); } catch (error) { fraction = error.name; }
console.log(\"'\" + text.replace('\n', '\\\\n') + \"' \" + kind + ', fraction: ' + fraction);")
seen="python: $python   npm: $npm"
echo "$seen"
text="'{\"note\":\"a\nb\"}' is no JSON"
[ "$seen" = "python: $text, fraction: FormatError   npm: $text, fraction: TypeError" ] || { echo "the behaviour changed" >&2; exit 1; }

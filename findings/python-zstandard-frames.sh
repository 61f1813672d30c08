#!/usr/bin/env bash
# What:        a zstd stream of several frames, or with a skippable frame in front, read through the
#              ways that python-zstandard offers
# Behaviour:   they disagree. stream_reader() and copy_stream() give all frames; read_to_iter(),
#              decompress() and decompressobj() give the first one only, without an error. A skippable
#              frame in front (zstd's place for an index or a label) makes read_to_iter() and
#              decompressobj() give nothing at all, and decompress() fail.
# Version:     zstandard 0.25.0
# Output seen: two frames: read_to_iter=b'one\n' stream_reader=b'one\ntwo\n'
#              skippable frame first: read_to_iter=b'' stream_reader=b'one\n'
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input zstandard==0.25.0; } || exit 3
v/bin/python - <<'P'
import io, struct, sys, zstandard

one, two = (zstandard.compress(t) for t in (b"one\n", b"two\n"))
skippable = struct.pack("<II", 0x184D2A50, 4) + b"abcd"

def attempt(f):
    try:
        return f()
    except zstandard.ZstdError as error:
        return str(error)

def ways(data):
    d, out = zstandard.ZstdDecompressor(), io.BytesIO()
    return {
        "read_to_iter": attempt(lambda: b"".join(d.read_to_iter(io.BytesIO(data)))),
        "decompressobj": attempt(lambda: d.decompressobj().decompress(data)),
        "decompress": attempt(lambda: d.decompress(data, max_output_size=64)),
        "stream_reader": attempt(lambda: d.stream_reader(io.BytesIO(data)).read()),
        "copy_stream": attempt(lambda: (d.copy_stream(io.BytesIO(data), out), out.getvalue())[1]),
    }

frames, skipped = ways(one + two), ways(skippable + one)
print("two frames:           ", frames)
print("skippable frame first:", skipped)
first, all_frames = b"one\n", b"one\ntwo\n"
same = (
    [frames[k] for k in ("read_to_iter", "decompressobj", "decompress")] == [first] * 3
    and [frames[k] for k in ("stream_reader", "copy_stream")] == [all_frames] * 2
    and skipped["read_to_iter"] == skipped["decompressobj"] == b""
    and isinstance(skipped["decompress"], str)
    and skipped["stream_reader"] == skipped["copy_stream"] == first
)
sys.exit(0 if same else "the behaviour changed")
P

#!/usr/bin/env bash
# httpx 0.28.1 cuts a line of JSON in the middle, at characters that JSON allows inside a string.
#
# NDJSON is one JSON value a line, and only a line feed ends a line. JSON lets U+0085, U+2028 and U+2029 stand in a string
# as they are, and orjson, msgspec and JSON.stringify write them so; text copied from documents has them.
# `Response.iter_lines()` of httpx splits text as str.splitlines does, at all three, and hands out halves. A stream is read
# rightly for months, then one customer's text ends it with a JSONDecodeError, and each retry ends at the same line. A file
# read line by line, and the same bytes split by bytes.splitlines, are fine. What helps: iter_bytes and b"\n", or a writer
# that escapes the three.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder. Only a server on 127.0.0.1 is reached. Exits
# with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check httpx==0.28.1 orjson==3.13.0

cat > run.py <<'EOF'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

import httpx
import orjson

TEXTS = {"u0085": "\x85", "u2028": "\u2028", "u2029": "\u2029", "space": " "}


class Server(BaseHTTPRequestHandler):
    """Answers /u2028 with two lines of JSON, whose texts have that character."""

    def do_GET(self):
        text = f"one{TEXTS[self.path[1:]]}two"
        body = b"".join(orjson.dumps({"n": n, "text": text}) + b"\n" for n in (1, 2))
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"httpx {version('httpx')}, orjson {version('orjson')}; two lines of JSON each")
seen = {}
for name in TEXTS:
    with httpx.stream("GET", f"http://127.0.0.1:{server.server_port}/{name}") as response:
        lines = list(response.iter_lines())
    body = httpx.get(f"http://127.0.0.1:{server.server_port}/{name}").content
    assert [json.loads(line)["n"] for line in body.splitlines()] == [1, 2]  # split as bytes, all is well
    seen[name] = len(lines)
    print(f"  with {name}: iter_lines gives {len(lines)}, the first is {lines[0]!r}")
expected = {"u0085": 4, "u2028": 4, "u2029": 4, "space": 2}
print("As described." if seen == expected else "Changed.")
raise SystemExit(seen != expected)
EOF
env/bin/python run.py

# Output seen:
#   httpx 0.28.1, orjson 3.13.0; two lines of JSON each
#     with u0085: iter_lines gives 4, the first is '{"n":1,"text":"one'
#     with u2028: iter_lines gives 4, the first is '{"n":1,"text":"one'
#     with u2029: iter_lines gives 4, the first is '{"n":1,"text":"one'
#     with space: iter_lines gives 2, the first is '{"n":1,"text":"one two"}'
#   As described.

#!/usr/bin/env bash
# httpx-sse 0.4.3 yields an event without data for each keep-alive comment, once the stream has had an id.
#
# Servers of server-sent events send a comment now and then (`: keep-alive` and an empty line), so that no proxy closes the
# connection. The standard has nothing dispatched for it. httpx-sse looks whether it knows any id, and it keeps the last one
# for ever: so from the first `id:` on, each comment is an event with the data "" and the id of the event before. A block of
# `retry:` alone is one too, even before the first id. `event.json()` raises on it; who counts events, or stores positions
# by id, takes the last event twice. With a server that sends no ids, nothing of it is seen. What helps: skip events whose
# data is empty.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder. No server is reached. Exits with 0 while the
# behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check httpx==0.28.1 httpx-sse==0.4.3

cat > run.py <<'EOF'
from importlib.metadata import version

import httpx
from httpx_sse import connect_sse

COMMENT = ": keep-alive\n\n"
STREAMS = {
    "comments before the first id": COMMENT * 2 + "data: {}\n\n",
    "comments after an id": 'id: 7\ndata: {"n": 7}\n\n' + COMMENT * 2,
    "retry alone": "retry: 1000\n\n",
}


def read(body):
    """The (id, data) of each event that a client gets."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    )
    with httpx.Client(transport=transport) as client, connect_sse(client, "GET", "http://server/") as source:
        return [(event.id, event.data) for event in source.iter_sse()]


print("httpx-sse", version("httpx-sse"))
seen = {name: read(body) for name, body in STREAMS.items()}
for name, events in seen.items():
    print(f"  {name}: {events}")
expected = {
    "comments before the first id": [("", "{}")],
    "comments after an id": [("7", '{"n": 7}'), ("7", ""), ("7", "")],
    "retry alone": [("", "")],
}
print("As described." if seen == expected else "Changed.")
raise SystemExit(seen != expected)
EOF
env/bin/python run.py

# Output seen:
#   httpx-sse 0.4.3
#     comments before the first id: [('', '{}')]
#     comments after an id: [('7', '{"n": 7}'), ('7', ''), ('7', '')]
#     retry alone: [('', '')]
#   As described.

#!/usr/bin/env bash
# uvloop 0.23.0 tells a reader only once about a socket that was reset: what came before the reset hides its end.
#
# A peer that closes a socket while it has not read all that we sent resets the connection. What it wrote before is
# still read first, and after that the error. With asyncio a callback of `loop.add_reader` is called as long as there is
# something to read: for the data, then for the error. uvloop calls it for the data and never again, also not if the
# reader is added once more. So whoever reads what there is and waits for the next call waits for ever. A PostgreSQL
# server that is killed under load does this: its last message comes together with the reset.
# What helps: after each read that leaves one waiting, ask the socket itself (poll) whether there is more.
#
# Needs Python 3.11 or newer. Installs a pinned package into a temporary folder, and only talks to itself over 127.0.0.1
# and a Unix socket. Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check uvloop==0.23.0

cat > run.py <<'PY'
import asyncio
import socket
import sys

import uvloop

WAIT_SECONDS = 2.0


def connect(kind):
    if kind == "Unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


async def read_to_the_end(kind):
    """What the reader was called for."""
    loop = asyncio.get_running_loop()
    ours, theirs = connect(kind)
    ours.setblocking(False)
    ours.send(b"not read by the peer")
    theirs.send(b"last words")
    ended = loop.create_future()
    calls = []

    def read():
        try:
            calls.append(ours.recv(100).decode())
        except OSError as error:
            calls.append(type(error).__name__)
            loop.remove_reader(ours)
            ended.set_result(None)

    loop.add_reader(ours, read)
    theirs.close()
    await asyncio.wait({ended}, timeout=WAIT_SECONDS)
    loop.remove_reader(ours)
    ours.close()
    return calls


def run(name, factory, kind):
    with asyncio.Runner(loop_factory=factory) as runner:
        calls = runner.run(read_to_the_end(kind))
    print(f"{name}, {kind} socket: the reader was called for {', '.join(calls)}")
    return calls


print("uvloop", uvloop.__version__, "- Python", sys.version.split()[0])
for kind in ("Unix", "TCP"):
    assert run("asyncio", asyncio.new_event_loop, kind) == ["last words", "ConnectionResetError"]
    assert run("uvloop", uvloop.new_event_loop, kind) == ["last words"]
PY
env/bin/python run.py

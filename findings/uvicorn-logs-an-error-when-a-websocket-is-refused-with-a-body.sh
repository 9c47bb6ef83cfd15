#!/usr/bin/env bash
# uvicorn 0.54.0 logs an error of the application for each WebSocket that the application refuses as ASGI provides.
#
# The extension "WebSocket denial response" lets an application answer a handshake with an HTTP response of its own
# (`websocket.http.response.start` and `.body`), for example a 404 with a JSON body. Clients depend on such bodies:
# the Stripe CLI asks for a new session only if the body has a certain message. With `websockets-sansio`, which `auto`
# chooses where the package websockets is installed, the client gets the response and the log gets "ASGI callable
# returned without completing handshake" at level ERROR, although the handshake was answered; with wsproto nothing
# of the kind is logged. Who counts error lines is alarmed by each client with an old id, as often as it likes.
# It does not help to await the end of the connection in the application before it returns (run below).
# What helps: --ws wsproto, or a subclass of the protocol that sets `handshake_complete` once the body is sent.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder. Only a server on 127.0.0.1 is reached.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "uvicorn==0.54.0" "websockets==17.4" "wsproto==1.2.0"

cat > run.py <<'EOF'
import asyncio
import importlib.metadata
import logging
import sys

import uvicorn

ERROR = "ASGI callable returned without completing handshake."


def make_app(awaits_end):
    async def app(scope, receive, send):
        assert scope["type"] == "websocket" and "websocket.http.response" in scope["extensions"]
        await receive()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b'{"error": "no such session"}'})
        if awaits_end:
            await receive()

    return app


class Records(logging.Handler):
    def emit(self, record):
        errors.append(record.getMessage())


async def refuse(implementation, awaits_end):
    """What the client gets, and the errors that were logged."""
    errors.clear()
    config = uvicorn.Config(make_app(awaits_end), port=0, ws=implementation, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname()[:2])
    writer.write(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    response = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    server.should_exit = True
    await task
    assert b" 404 " in response and b'{"error": "no such session"}' in response, response
    print(f"  {implementation}, {'waits' if awaits_end else 'returns'} after its response: "
          f"the client gets 404 and the body; logged as error: {errors or 'nothing'}")
    return list(errors)


async def main():
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("uvicorn", "websockets", "wsproto")))
    cases = [("websockets-sansio", False), ("wsproto", False), ("websockets-sansio", True)]
    seen = [await refuse(*case) for case in cases]
    return seen == [[ERROR], [], [ERROR]]


errors = []
logging.getLogger("uvicorn.error").addHandler(Records(logging.ERROR))
sys.exit(0 if asyncio.run(main()) else 1)
EOF
env/bin/python run.py || { echo "Changed: what is logged is otherwise"; exit 1; }
echo "As described: a refusal that the application has answered is logged as its error."

# Output seen:
#   uvicorn 0.54.0, websockets 17.4, wsproto 1.2.0
#     websockets-sansio, returns after its response: the client gets 404 and the body; logged as error: ['ASGI callable returned without completing handshake.']
#     wsproto, returns after its response: the client gets 404 and the body; logged as error: nothing
#     websockets-sansio, waits after its response: the client gets 404 and the body; logged as error: ['ASGI callable returned without completing handshake.']
#   As described: a refusal that the application has answered is logged as its error.

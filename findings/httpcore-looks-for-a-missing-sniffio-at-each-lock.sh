#!/usr/bin/env bash
# httpcore 1.0.9 under asyncio searches the whole Python path for the package sniffio several times per request, if
# it is not installed, which since anyio 4.12 it no longer is by itself.
#
# httpcore finds out which event loop it runs in for each lock, event and semaphore that it makes, by `import
# sniffio` inside the function, with asyncio as the fallback. A successful import is remembered by Python; a failed
# one is not, so each of these goes through all finders and all folders of sys.path again. Nothing is logged and all
# works, only slower: each request pays for it, and a kept connection does not help. httpcore names no such
# dependency for its asyncio extra: it came with anyio, until anyio dropped it.
# What helps: install sniffio beside it.
#
# Needs Python 3.11 or newer. Installs pinned packages into a temporary folder. Only a server on 127.0.0.1 is reached.
# Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
for name in without with; do
    python3 -m venv "env-$name"
    "env-$name/bin/python" -m pip install --quiet --disable-pip-version-check "httpcore[asyncio]==1.0.9" \
        "anyio==4.16.0" "h11==0.16.0"
done
env-with/bin/python -m pip install --quiet --disable-pip-version-check "sniffio==1.3.1"

cat > run.py <<'EOF'
import asyncio
import importlib.metadata
import importlib.util
import sys

REQUESTS = 10


class Counter:
    """A finder that finds nothing: it counts how often Python searches for sniffio."""

    searches = 0

    def find_spec(self, name, path=None, target=None):
        if name == "sniffio":
            Counter.searches += 1


async def answer(reader, writer):
    while (await reader.readline()).strip():  # ends when the client closes the connection
        while (await reader.readline()).strip():
            pass
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def main():
    import httpcore

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1]
    async with httpcore.AsyncConnectionPool() as pool:
        await pool.request("GET", url)  # makes the connection, which is kept
        Counter.searches = 0
        for _ in range(REQUESTS):
            assert (await pool.request("GET", url)).content == b"ok"
    await asyncio.sleep(0.1)  # the server sees that the connection is closed
    return Counter.searches


expects_searches = importlib.util.find_spec("sniffio") is None
sys.meta_path.insert(0, Counter())
searches = asyncio.run(main())
versions = "httpcore " + importlib.metadata.version("httpcore") + ", anyio " + importlib.metadata.version("anyio")
print(f"{versions}, sniffio {'missing' if expects_searches else 'installed'}: "
      f"{searches} searches for it in {REQUESTS} requests over one kept connection")
sys.exit(0 if (searches >= REQUESTS) == expects_searches and (searches > 0) == expects_searches else 1)
EOF

for name in without with; do
    "env-$name/bin/python" run.py || { echo "Changed: the searches are otherwise"; exit 1; }
done
echo "As described: each request searches for the missing package, and none for the installed one."

# Output seen:
#   httpcore 1.0.9, anyio 4.16.0, sniffio missing: 41 searches for it in 10 requests over one kept connection
#   httpcore 1.0.9, anyio 4.16.0, sniffio installed: 0 searches for it in 10 requests over one kept connection
#   As described: each request searches for the missing package, and none for the installed one.

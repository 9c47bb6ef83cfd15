"""A process that follows the log: `follower.py DSN`.

Reads what there is after what it has read, again and again, and prints the end it has reached each time
that changes; fails at once at an event that is not the next in order. When standard input says up to which
position, it continues to that position and prints a digest of all that it saw.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys

from ledger.postgres.connections import connect
from ledger.store.codec import Codec
from ledger.store.log import read_log
from tests.store.stores import KEY

PAGE_SIZE = 500


def digest_of(log: list[tuple[int, str, int]]) -> str:
    return hashlib.sha256(repr(log).encode()).hexdigest()


async def follow(dsn: str) -> None:
    conn = await connect(dsn, "ledger_api", name="follower")
    codec = Codec(KEY)
    stop_position = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    seen: list[tuple[int, str, int]] = []
    versions: dict[str, int] = {}
    print("ready", flush=True)
    while not (stop_position.done() and len(seen) >= int(stop_position.result())):
        events = await read_log(conn, codec, len(seen), PAGE_SIZE)
        for recorded in events:
            stream, version = recorded.event.originator_id, recorded.event.originator_version
            assert recorded.position == len(seen) + 1, f"{recorded.position} after {len(seen)}"
            assert version == versions.get(stream, 0) + 1, f"{stream}/{version} after {versions.get(stream)}"
            versions[stream] = version
            seen.append((recorded.position, stream, version))
        if not events:
            await asyncio.sleep(0.001)
    print(digest_of(seen), flush=True)
    await conn.close()


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1]))

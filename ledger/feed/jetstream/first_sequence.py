"""Make a stream whose first sequence is a given one, for consumers who do not want what is older.

NATS 2.10 has a setting for it. Before, purging an empty stream up to a sequence lets it go on there; but such
a stream compares `Nats-Expected-Last-Sequence` with the sequence that it had before, until the server is
started again (seen in 2.9.10). A snapshot that is restored has no such memory, so it is made and restored at
once: it has no messages, and fits into a few chunks.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from ledger.feed.jetstream.connection import NatsUnavailable, describe
from ledger.feed.jetstream.stream import CALL_SECONDS_MAX, Stream

SETTING_SINCE = (2, 10)


class _Snapshot(msgspec.Struct):
    config: dict[str, Any]
    state: dict[str, Any]


class _Restore(msgspec.Struct):
    deliver_subject: str


async def create_stream_at(stream: Stream, config: dict[str, Any], first: int) -> None:
    """Make the stream, which must not be there, with `first` as the sequence of its first message. Raises
    NatsUnavailable, after which it may be there with another first sequence and no message."""
    version = stream.client.connected_server_version
    if first == 1 or (version.major, version.minor) >= SETTING_SINCE:
        await stream.create(config if first == 1 else {**config, "first_seq": first})
        return
    await stream.create({**config, "deny_purge": False})
    await stream.skip_to(first)
    snapshot, chunks = await _take_snapshot(stream)
    await stream.delete()
    await _restore(stream, snapshot, chunks)
    info = await stream.read()
    if info is None or info.state.last_seq != first - 1:
        raise NatsUnavailable(f"this server cannot begin a stream at {first}: NATS 2.10 can")
    await stream.update({**info.config, "deny_purge": config.get("deny_purge", False)})


async def _take_snapshot(stream: Stream) -> tuple[_Snapshot, list[bytes]]:
    """The stream as the server stores it, without consumers."""
    client, chunks = stream.client, []
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    try:
        body = {"deliver_subject": inbox, "no_consumers": True}
        snapshot = await stream.call("a snapshot", f"STREAM.SNAPSHOT.{stream.name}", body, _Snapshot)
        async with asyncio.timeout(CALL_SECONDS_MAX):
            while (chunk := await subscription.next_msg()).data:
                chunks.append(chunk.data)
                if chunk.reply:
                    await client.publish(chunk.reply)
    except NatsUnavailable:
        raise
    except Exception as error:
        raise NatsUnavailable(f"a snapshot of the empty stream failed: {describe(error, client)}") from error
    finally:
        await subscription.unsubscribe()
    return snapshot, chunks


async def _restore(stream: Stream, snapshot: _Snapshot, chunks: list[bytes]) -> None:
    """Make the stream as it was."""
    body = {"config": snapshot.config, "state": snapshot.state}
    restore = await stream.call("to restore", f"STREAM.RESTORE.{stream.name}", body, _Restore)
    try:
        for chunk in (*chunks, b""):
            await stream.client.request(restore.deliver_subject, chunk, CALL_SECONDS_MAX)
    except Exception as error:
        reason = describe(error, stream.client)
        raise NatsUnavailable(f"the empty stream could not be restored: {reason}") from error

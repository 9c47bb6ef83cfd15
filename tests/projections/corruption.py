"""Records that cannot be read: damaged bytes or topics, another key, what a later release has stored."""

from __future__ import annotations

from typing import NamedTuple

from psycopg import AsyncConnection

from ledger.domain.customer import CustomerUpdated
from ledger.store.codec import Codec

OTHER_KEY_CODEC = Codec(b"another service key, of some other deployment")


class Record(NamedTuple):
    """What is stored of an event: its topic, None to keep it, and its JSON."""

    topic: str | None
    state: bytes


def _seal_with_other_key() -> bytes:
    event = CustomerUpdated(originator_id="cus_1", originator_version=2, at=1, changes={"name": "Ada"})
    return OTHER_KEY_CODEC.to_stored_event(event).state


UNREADABLE: dict[str, tuple[Record, str]] = {
    "topic of a later release": (Record("customer.merged", b'{"at":1,"into":"cus_2"}'), "unknown_topic"),
    "topic like a module path": (Record("os:system", b'{"at":1}'), "unknown_topic"),
    "empty topic": (Record("", b'{"at":1}'), "unknown_topic"),
    "no JSON": (Record(None, b"?"), "not_json"),
    "no object": (Record(None, b"[]"), "not_json"),
    "no fields": (Record(None, b"{}"), "fields_missing"),
    "another key": (Record("customer.updated", _seal_with_other_key()), "cannot_be_opened"),
    "a later version": (Record(None, b'{"class_version":9,"into":"cus_2"}'), "newer_version"),
    "a version that is none": (Record(None, b'{"class_version":"x","at":1}'), "cannot_be_upcast"),
    "fields that no aggregate has": (
        Record("customer.updated", b'{"at":1,"changes":{"no_such_field":1}}'),
        "cannot_be_folded",
    ),
}
"""By kind: a record that cannot be read in the place of any but the first event of a customer, and the reason
that is reported."""


async def store_record(dsn: str, position: int, record: Record) -> Record:
    """Overwrite the record at `position`; returns what was stored before."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
        # A trigger refuses this on any other connection: the log is append-only.
        await conn.execute("SET session_replication_role = replica")
        cur = await conn.execute(
            "WITH was AS (SELECT topic, state FROM ledger.events WHERE notification_id = %(position)s)"
            " UPDATE ledger.events SET topic = coalesce(%(topic)s, topic), state = %(state)s"
            " WHERE notification_id = %(position)s"
            " RETURNING (SELECT topic FROM was), (SELECT state FROM was)",
            {"position": position, **record._asdict()},
        )
        row = await cur.fetchone()
    assert row is not None
    return Record(row[0], bytes(row[1]))


async def corrupt_event(dsn: str, position: int, state: bytes = b"?") -> bytes:
    """Overwrite the stored state of the event at `position`; returns what was stored before."""
    return (await store_record(dsn, position, Record(None, state))).state

"""Keep the keys that earlier releases derived, so that each can be destroyed with its subject.

One process at a time follows the log, and inserts the key of each stream in which such a release has sealed
something into `ledger.stream_keys`, sealed under the key of the stream's subject; whoever else owns an object
of the stream later gets a data key, too, for its rows. It begins while the previous release still appends.
Once no earlier release may run, it ends the old form, goes on to the end of the log and to the contents of
files, and is finished: from then on no key is derived. A killed one goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from ledger.background import BackgroundLoop
from ledger.domain.imported_event import EventImported
from ledger.domain.subjects import choose_subject, find_subject
from ledger.errors import UnreadableRecord
from ledger.keys.data_keys import DataKey
from ledger.keys.erasure_watch import CHANNEL, wait_for_batches
from ledger.keys.stream_keys import derive_chunk_key, name_chunk_stream, seal_stream_key
from ledger.postgres.connections import (
    BACKGROUND_ANSWER_SECONDS,
    Conn,
    ReconnectingConnection,
    fetch_all,
    fetch_one,
)
from ledger.postgres.migrations import may_seal_by_subject
from ledger.store.codec import Codec, evolve_stored
from ledger.store.seals.records import Record
from ledger.store.seals.seals import DerivedKeys

PAGE_EVENTS = 500
PAGE_FILES = 200
PAUSE_SECONDS = 5.0
"""How often to look for what the previous release has appended, and for the end of its support."""

_SELECT_PROGRESS = "SELECT position, finished_at IS NOT NULL FROM ledger.key_migration"
_LOCK_PROGRESS = """
SELECT m.position, h.position FROM ledger.head h, ledger.key_migration m
WHERE m.finished_at IS NULL FOR UPDATE OF m SKIP LOCKED
"""
# As earlier releases seal: without a subject and its colon. Only of an imported Event is the content needed.
_SELECT_PAGE = """
SELECT DISTINCT ON (originator_id) originator_id, originator_version, topic,
       CASE WHEN topic = %(imported)s THEN state END, customer
FROM ledger.events
WHERE notification_id > %(after)s AND notification_id <= %(upto)s
AND encode(state, 'escape') ~ '"sealed":"[A-Za-z0-9+/=]+"'
AND NOT EXISTS (SELECT FROM ledger.stream_keys k WHERE k.stream = originator_id)
ORDER BY originator_id, originator_version
"""
# Of the streams with such a key: whom their rows are sealed for later. A publication may name another
# customer than the one before, or none, and of a customer of another system nothing else may be stored.
_SELECT_OWNERS = """
SELECT DISTINCT originator_id, customer FROM ledger.events
WHERE notification_id > %(after)s AND notification_id <= %(upto)s AND topic <> %(imported)s
AND EXISTS (SELECT FROM ledger.stream_keys k WHERE k.stream = originator_id)
"""
_SELECT_FILES = """
SELECT DISTINCT c.file FROM ledger.file_chunks c
WHERE c.subject IS NULL AND NOT EXISTS (SELECT FROM ledger.stream_keys k WHERE k.stream = c.file || '/chunks')
LIMIT %(limit)s
"""
_INSERT_DATA_KEYS = """
INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by)
SELECT unnest(%(subjects)s::text[]), unnest(%(wraps)s::bytea[]), unnest(%(wrapped_by)s::text[])
ON CONFLICT DO NOTHING
"""
_INSERT_STREAM_KEYS = """
INSERT INTO ledger.stream_keys (stream, subject, wrapped)
SELECT unnest(%(streams)s::text[]), unnest(%(subjects)s::text[]), unnest(%(wraps)s::bytea[])
ON CONFLICT DO NOTHING
"""
_ADVANCE = """
UPDATE ledger.key_migration SET position = greatest(position, %(position)s), streams = streams + %(streams)s
"""
_FINISH = "UPDATE ledger.key_migration SET finished_at = now() WHERE finished_at IS NULL"
_LOCK_HEAD = "SELECT FROM ledger.head_lock FOR UPDATE"
_END_OLD_FORM = "UPDATE ledger.erasure_epoch SET epoch = 1 WHERE epoch = 0"
_NOTIFY = "SELECT pg_notify(%s, '1')"

log = structlog.get_logger()


class KeyMigration:
    """Does this in the background, in any worker. Ends when there is nothing to do any more."""

    def __init__(self, dsn: str, codec: Codec, *, page_events: int = PAGE_EVENTS) -> None:
        self._codec = codec
        self._data_keys = codec.data_keys
        self._watch = codec.data_keys.watch
        self._derived = DerivedKeys(codec.service_keys)
        self._page_events = page_events
        self._connection = ReconnectingConnection(
            dsn, "ledger_api", name="key migration", answer_seconds=BACKGROUND_ANSWER_SECONDS
        )
        self._loop = BackgroundLoop("key migration", self._run)

    async def start(self) -> None:
        """Begin with the first page."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop after the page under way; another process goes on from there."""
        await self._loop.close()
        await self._connection.drop()

    async def _run(self) -> float | None:
        """One page. Returns the seconds to wait before the next one; None at the end."""
        async with self._connection as conn:
            pause = await self.advance(conn)
        if pause is None or pause > 0:
            await self._connection.drop()
        return pause

    async def advance(self, conn: Conn) -> float | None:
        """Keep the keys of one page. Returns the seconds after which there may be more; None when all keys
        are kept. Raises psycopg.Error; then nothing has changed."""
        row = await fetch_one(conn, _SELECT_PROGRESS)
        if row is None or row[1]:
            return None
        # Whatever comes after the head that is read now is no longer in the old form.
        ends = await self._watch.look(conn) > 0
        async with conn.transaction():
            progress = await fetch_one(conn, _LOCK_PROGRESS)
            if progress is None:
                return PAUSE_SECONDS  # another process is at it
            after, head = progress
            upto = min(after + self._page_events, head)
            streams = await self._keep_keys_of_events(conn, after, upto)
            await conn.execute(_ADVANCE, {"position": upto, "streams": streams})
        if upto < head:
            return 0
        if ends:
            return await self._finish(conn)
        if await may_seal_by_subject(conn):
            await self._end_old_form(conn)
            return 0
        return PAUSE_SECONDS

    async def _keep_keys_of_events(self, conn: Conn, after: int, upto: int) -> int:
        bindings = {"after": after, "upto": upto, "imported": EventImported.TOPIC}
        rows = await fetch_all(conn, _SELECT_PAGE, bindings)
        subjects = {row[0]: self._find_subject(row) for row in rows}
        keys = {stream: self._derived.derive(stream) for stream in subjects}
        streams = await self._keep(conn, keys, subjects)
        owners = await fetch_all(conn, _SELECT_OWNERS, bindings)
        await self._load_or_create(conn, [choose_subject(customer, stream) for stream, customer in owners])
        return streams

    def _find_subject(self, row: Record) -> str:
        """The subject of a stream, by its first event. Earlier releases did not store the customer of an
        imported one beside it."""
        stream, version, topic, state, customer = row
        if topic != EventImported.TOPIC:
            return choose_subject(customer, stream)
        try:
            event = self._codec.decode_event(stream, version, topic, state)
            return find_subject(evolve_stored(None, event))
        except UnreadableRecord as error:
            log.error("record_unreadable", loop=self._loop.name, **error.to_log())
            return choose_subject(stream)

    async def _keep(self, conn: Conn, keys: Mapping[str, bytes], subjects: Mapping[str, str]) -> int:
        """Insert the keys by stream, sealed for their subjects; returns how many."""
        if not keys:
            return 0
        data_keys = await self._load_or_create(conn, subjects.values())
        wraps = [seal_stream_key(data_keys[subjects[stream]], stream, key) for stream, key in keys.items()]
        bindings = {"streams": list(keys), "subjects": [subjects[stream] for stream in keys], "wraps": wraps}
        await conn.execute(_INSERT_STREAM_KEYS, bindings)
        return len(keys)

    async def _load_or_create(self, conn: Conn, subjects: Iterable[str]) -> dict[str, DataKey]:
        """The data keys of the subjects; those that have none get one. Nothing is erased before the end of
        the migration."""
        wanted = list(dict.fromkeys(subjects))
        keyring = await self._data_keys.load(conn, wanted)
        if missing := [subject for subject in wanted if keyring.get(subject) is None]:
            created = [self._data_keys.create(subject) for subject in missing]
            bindings = {
                "subjects": missing,
                "wraps": [new.wrapped for new in created],
                "wrapped_by": [new.wrapped_by for new in created],
            }
            await conn.execute(_INSERT_DATA_KEYS, bindings)
            keyring = await self._data_keys.load(conn, wanted)
        return {subject: key for subject in wanted if (key := keyring.get(subject)) is not None}

    async def _end_old_form(self, conn: Conn) -> None:
        """From now on every event and every chunk of a file is sealed under a data key: appends compare the
        epoch under this lock, and who stores chunks holds it."""
        async with conn.transaction():
            await conn.execute(_LOCK_HEAD)
            await conn.execute(_END_OLD_FORM)
            await conn.execute(_NOTIFY, (CHANNEL,))
        await wait_for_batches(conn)

    async def _finish(self, conn: Conn) -> float | None:
        """The contents of files, page by page, and then the end."""
        async with conn.transaction():
            if await fetch_one(conn, _LOCK_PROGRESS) is None:
                return PAUSE_SECONDS
            files = [row[0] for row in await fetch_all(conn, _SELECT_FILES, {"limit": PAGE_FILES})]
            keys = {
                name_chunk_stream(file): derive_chunk_key(self._codec.service_keys, file) for file in files
            }
            subjects = {name_chunk_stream(file): file for file in files}
            streams = await self._keep(conn, keys, subjects)
            await conn.execute(_ADVANCE, {"position": 0, "streams": streams})
            if files:
                return 0
            await conn.execute(_FINISH)
        log.info("key_migration_finished")
        return None

"""Erasures as they are kept: which step is under way, how far it is, and what was done.

Whoever works on an erasure has locked its row, in the transaction of the work itself: so any number of
processes may try, one works, and one that is killed has done a page or has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from ledger.postgres.connections import Conn, fetch_all, fetch_one


class Step(StrEnum):
    """What is done, in this order."""

    CLOSURE = "closure"
    REMNANTS = "remnants"
    REPLIES = "replies"
    KEYS = "keys"
    ROWS = "rows"
    ANSWERS = "answers"
    FILES = "files"
    REQUEST_LOGS = "request_logs"
    EXPORTS = "exports"
    LEASE = "lease"
    COMPLETE = "complete"
    CERTIFICATE = "certificate"
    ENDED = "ended"


_NEXT = dict(zip(tuple(Step)[:-1], tuple(Step)[1:], strict=True))

_COLUMNS = """
e.job, e.account, e.livemode, e.subjects, e.requested_position, e.step, e.cursor, e.cursor_version, e.counts,
e.obstacle, e.completed_position, extract(epoch FROM clock_timestamp() - e.moved_at)::float8
"""
_INSERT = """
INSERT INTO ledger.erasures (job, account, livemode, subjects, requested_position)
VALUES (%(job)s, %(account)s, %(livemode)s, %(subjects)s::text[], %(position)s)
ON CONFLICT ON CONSTRAINT erasures_key DO NOTHING
"""
_UNENDED = f"SELECT {_COLUMNS} FROM ledger.erasures e WHERE ended_at IS NULL ORDER BY job"  # noqa: S608
# A copy of the database destroys nothing by itself: what is to be erased there was erased in the original.
_LOCK = f"""
SELECT {_COLUMNS} FROM ledger.erasures e
WHERE job = %(job)s AND step = %(step)s AND ended_at IS NULL AND (SELECT ledger.is_active_database())
FOR UPDATE SKIP LOCKED
"""  # noqa: S608 (a constant)
_SAVE = """
UPDATE ledger.erasures SET step = %(step)s, cursor = %(cursor)s, cursor_version = %(version)s,
    counts = %(counts)s::jsonb, obstacle = NULL,
    completed_position = coalesce(%(completed)s, completed_position),
    caches_until = greatest(caches_until, clock_timestamp() + %(caches)s * interval '1 second'),
    sending = sending || %(sending)s::jsonb,
    moved_at = clock_timestamp(),
    ended_at = CASE WHEN %(step)s = 'ended' THEN clock_timestamp() END
WHERE job = %(job)s
"""
_NOTE_OBSTACLE = """
UPDATE ledger.erasures SET obstacle = %(obstacle)s
WHERE job = (SELECT job FROM ledger.erasures WHERE job = %(job)s AND obstacle IS DISTINCT FROM %(obstacle)s
             FOR UPDATE SKIP LOCKED)
"""
# A delivery with another lease than it was found with has ended. Earlier builds wrote `sent_until`.
_SECONDS_TO_WAIT = """
SELECT extract(epoch FROM greatest(e.caches_until, e.sent_until, (
    SELECT max(d.leased_until)
    FROM jsonb_each_text(e.sending) AS claimed(delivery, until)
    CROSS JOIN LATERAL (SELECT * FROM webhooks.deliveries WHERE id = claimed.delivery OFFSET 0) d
    WHERE d.leased_until = claimed.until::timestamptz)) - clock_timestamp())::float8
FROM ledger.erasures e WHERE job = %(job)s
"""


class Place(NamedTuple):
    """A place within a step, ordered: a stream and a version of it, or whatever the step counts by."""

    cursor: str = ""
    version: int = 0


class Erasure(NamedTuple):
    """An erasure as it is kept. `counts` by kind; `seconds_still`: since it last moved."""

    job: str
    account: str
    livemode: bool
    subjects: list[str]
    requested_position: int
    step: Step
    place: Place
    counts: dict[str, int]
    obstacle: str | None
    completed_position: int | None
    seconds_still: float

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Erasure:
        """The erasure in a row of `_COLUMNS`."""
        (
            job,
            account,
            livemode,
            subjects,
            position,
            step,
            cursor,
            version,
            counts,
            obstacle,
            completed,
            still,
        ) = row
        place = Place(cursor, version)
        return cls(
            job, account, livemode, subjects, position, Step(step), place, counts, obstacle, completed, still
        )


class Page(NamedTuple):
    """What one transaction of a step has done.

    place          where the next page begins; None: the step is done
    counts         what to add to the erasure's counts
    obstacle       why the step cannot go on, for operators; nothing was done then
    cache_seconds  for so long caches may still have what they should not
    sending        the deliveries by which a receiver may be sent what it should not: their leases, by id
    completed      position of the event that ends the job
    """

    place: Place | None = None
    counts: Mapping[str, int] = {}
    obstacle: str | None = None
    cache_seconds: float | None = None
    sending: Mapping[str, str] = {}
    completed: int | None = None


WAIT = Page(Place())
"""The page of a step that has nothing to do but to wait for a moment."""


async def begin_erasure(
    conn: Conn, job: str, *, account: str, livemode: bool, subjects: Sequence[str], position: int
) -> None:
    """Begin the erasure of a job whose run was requested at `position`, unless it has begun already."""
    parameters = {
        "job": job, "account": account, "livemode": livemode, "subjects": list(subjects),
        "position": position,
    }  # fmt: skip
    await conn.execute(_INSERT, parameters)


async def list_unended(conn: Conn) -> list[Erasure]:
    """The erasures that have not ended, oldest first."""
    return [Erasure.from_row(row) for row in await fetch_all(conn, _UNENDED.encode())]


async def lock_erasure(conn: Conn, job: str, step: Step) -> Erasure | None:
    """The erasure, locked until the caller's transaction ends; None when another process works on it, or it
    is not in that step."""
    row = await fetch_one(conn, _LOCK.encode(), {"job": job, "step": step})
    return None if row is None else Erasure.from_row(row)


async def save_page(conn: Conn, erasure: Erasure, page: Page) -> Step:
    """Move the locked erasure on, in the caller's transaction. Returns the step that comes next."""
    if page.obstacle is not None:
        return erasure.step
    step, place = (erasure.step, page.place) if page.place is not None else (_NEXT[erasure.step], Place())
    counts = dict(erasure.counts)
    for kind, count in page.counts.items():
        counts[kind] = counts.get(kind, 0) + count
    parameters = {
        "job": erasure.job, "step": step, "cursor": place.cursor, "version": place.version,
        "counts": msgspec.json.encode(counts).decode(), "completed": page.completed,
        "caches": page.cache_seconds, "sending": msgspec.json.encode(page.sending).decode(),
    }  # fmt: skip
    await conn.execute(_SAVE, parameters)
    return step


async def note_obstacle(conn: Conn, job: str, obstacle: str) -> bool:
    """Note why an erasure does not move. Returns whether that is new. Waits for no process that works on
    it."""
    cur = await conn.execute(_NOTE_OBSTACLE, {"job": job, "obstacle": obstacle})
    return cur.rowcount > 0


async def read_seconds_to_wait(conn: Conn, job: str) -> float:
    """For how long a cache may still have, or a receiver be sent, what it should not."""
    row = await fetch_one(conn, _SECONDS_TO_WAIT, {"job": job})
    return 0.0 if row is None else max(row[0], 0.0)

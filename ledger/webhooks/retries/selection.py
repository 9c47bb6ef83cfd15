"""The deliveries that a retry takes, of one endpoint, in the order of their ids: counted, or made due.

A statement goes through a bounded number of rows and says how far it got; the next one goes on there. So a
filter that few deliveries match costs many statements, never a long one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.webhooks.history.retry import TRIES_MAX
from ledger.webhooks.retries.filters import RetryFilter

COUNT_ROWS_MAX = 20_000
TAKE_ROWS_MAX = 2_000

_COLUMNS = "SELECT d.id, d.state, d.type, d.due_at, d.tries, d.replay FROM webhooks.deliveries d"
# The index has the ids of each state of the endpoint in order: it takes the first rows of each. Rows are
# compared as in `history.deliveries`.
_OF_STATES = f"""
SELECT found.* FROM unnest(%(states)s::text[]) AS wanted(state)
CROSS JOIN LATERAL (
    {_COLUMNS} WHERE (d.endpoint, d.state, d.id) > (%(endpoint)s, wanted.state, %(after)s)
    AND (d.endpoint, d.state, d.id) >= (%(endpoint)s, wanted.state, %(first)s)
    AND (d.endpoint, d.state, d.id) < (%(endpoint)s, wanted.state, %(before)s)
    ORDER BY d.endpoint, d.state, d.id LIMIT %(rows)s) AS found
ORDER BY found.id LIMIT %(rows)s
"""  # noqa: S608 (constants)
_OF_EVENT = f"""
{_COLUMNS} WHERE d.event = ANY (%(events)s::text[]) AND d.endpoint = %(endpoint)s
AND d.state = ANY (%(states)s::text[]) AND d.id > %(after)s AND d.id >= %(first)s AND d.id < %(before)s
ORDER BY d.id LIMIT %(rows)s
"""
# Of the pending ones those that wait for their time: the others are sent anyway, or wait for one before them.
_WAITS_FOR_ITS_TIME = """
(d.state <> 'pending' OR d.due_at > to_timestamp(%(now)s) AND d.due_at < 'infinity')
"""
_MATCHES = f"""
{_WAITS_FOR_ITS_TIME} AND (%(types)s::text[] IS NULL OR d.type = ANY (%(types)s::text[]))
AND (%(status)s::smallint IS NULL AND %(error)s::text IS NULL OR EXISTS (
    SELECT FROM (SELECT a.status, a.error FROM webhooks.attempts a WHERE a.delivery = d.id
                 ORDER BY a.number DESC LIMIT 1) AS last
    WHERE (%(status)s::smallint IS NULL OR last.status = %(status)s::smallint)
    AND (%(error)s::text IS NULL OR last.error = %(error)s::text)))
"""  # noqa: S608 (a constant)
_IN_JOB = """
(d.replay IS NOT NULL
 AND (EXISTS (SELECT FROM webhooks.replays r WHERE r.id = d.replay AND r.ended IS NULL)
      OR EXISTS (SELECT FROM webhooks.retries r WHERE r.id = d.replay AND r.ended IS NULL)))
"""
_COUNT = f"""
WITH scanned AS MATERIALIZED ({{scanned}})
SELECT ends.rows, ends.last, of_state.* FROM (SELECT count(*) AS rows, max(id) AS last FROM scanned) AS ends
LEFT JOIN (
    SELECT found.state, count(*), count(*) FILTER (WHERE in_job),
           count(*) FILTER (WHERE NOT in_job AND tries >= {TRIES_MAX})
    FROM (SELECT d.state, d.tries, {_IN_JOB} AS in_job FROM scanned d WHERE {_MATCHES}) AS found
    GROUP BY found.state) AS of_state ON true
"""  # noqa: S608 (constants)
# What has changed until it is locked is looked at again. Due one after the other, so that they are sent in
# their order. One whose last attempt is still under way begins its schedule after that one.
_TAKE = f"""
WITH scanned AS MATERIALIZED ({{scanned}}),
matching AS MATERIALIZED (SELECT d.id FROM scanned d WHERE {_MATCHES} ORDER BY d.id LIMIT %(room)s),
locked AS MATERIALIZED (
    SELECT d.id, d.state, d.tries, {_IN_JOB} AS in_job FROM webhooks.deliveries d
    WHERE d.id IN (SELECT id FROM matching) AND d.state = ANY (%(states)s::text[]) AND {_WAITS_FOR_ITS_TIME}
    ORDER BY d.id FOR UPDATE OF d
), numbered AS (
    SELECT id, state, row_number() OVER (ORDER BY id) AS number FROM locked
    WHERE NOT in_job AND tries < {TRIES_MAX}
), renewed AS (
    UPDATE webhooks.deliveries d
    SET state = 'pending', replay = %(retry)s, retried_from = n.state,
        schedule_from = d.tries + (d.leased_until > now())::integer,
        due_at = to_timestamp(%(now)s) + CASE WHEN d.leased_until > now() THEN interval '1 second'
                                         ELSE n.number * interval '1 microsecond' END
    FROM numbered n WHERE d.id = n.id RETURNING d.id)
SELECT (SELECT count(*) FROM scanned), (SELECT max(id) FROM scanned),
       (SELECT count(*) FROM matching), (SELECT max(id) FROM matching),
       (SELECT count(*) FROM locked WHERE in_job),
       (SELECT count(*) FROM locked WHERE NOT in_job AND tries >= {TRIES_MAX}),
       ARRAY(SELECT id FROM renewed ORDER BY id)
"""  # noqa: S608 (constants)
_COUNT_OF_STATES, _COUNT_OF_EVENT = _COUNT.format(scanned=_OF_STATES), _COUNT.format(scanned=_OF_EVENT)
_TAKE_OF_STATES, _TAKE_OF_EVENT = _TAKE.format(scanned=_OF_STATES), _TAKE.format(scanned=_OF_EVENT)


@dataclass(slots=True)
class Tally:
    """How many deliveries match, by state; of them, `in_other_job` and `exhausted` cannot be made due."""

    by_state: Counter[str] = field(default_factory=Counter)
    in_other_job: int = 0
    exhausted: int = 0

    @property
    def matched(self) -> int:
        """All that match."""
        return self.by_state.total()

    def add(self, other: Tally) -> None:
        """Take in those of another part."""
        self.by_state += other.by_state
        self.in_other_job += other.in_other_job
        self.exhausted += other.exhausted


class Counted(NamedTuple):
    """What a count found among `rows` deliveries up to the id `upto`; None: there are no others."""

    tally: Tally
    rows: int
    upto: str | None


class Taken(NamedTuple):
    """Ids of the deliveries that became due, and how many cannot; `upto` as in `Counted`."""

    renewed: list[str]
    in_other_job: int
    exhausted: int
    upto: str | None


async def count_deliveries(
    conn: Conn, chosen: RetryFilter, endpoint: str, after: str, *, now: float, rows: int = COUNT_ROWS_MAX
) -> Counted:
    """Count those to the endpoint that match at `now` (unix seconds), among the next `rows` after the id
    `after`. Raises psycopg.Error."""
    parameters: dict[str, Any] = {**chosen.bind(now), "endpoint": endpoint, "after": after, "rows": rows}
    query = _COUNT_OF_STATES if chosen.events is None else _COUNT_OF_EVENT
    tally, scanned, last = Tally(), 0, None
    for scanned, last, state, number, in_other_job, exhausted in await fetch_all(  # noqa: B007
        conn, query.encode(), parameters
    ):
        if state is not None:
            tally.add(Tally(Counter({state: number}), in_other_job, exhausted))
    return Counted(tally, scanned, last if scanned == rows else None)


async def take_deliveries(
    conn: Conn, chosen: RetryFilter, endpoint: str, after: str, *, retry: str, room: int, now: float
) -> Taken:
    """Make at most `room` deliveries to the endpoint due at `now` (unix seconds), in the transaction of the
    caller: the next that match after the id `after`. Raises psycopg.Error."""
    parameters: dict[str, Any] = {
        **chosen.bind(now), "endpoint": endpoint, "after": after, "rows": TAKE_ROWS_MAX, "room": room,
        "retry": retry,
    }  # fmt: skip
    query = _TAKE_OF_STATES if chosen.events is None else _TAKE_OF_EVENT
    row = await fetch_one(conn, query.encode(), parameters)
    assert row is not None
    scanned, last_scanned, matching, last_matching, in_other_job, exhausted, renewed = row
    upto = last_scanned if scanned == TAKE_ROWS_MAX else None
    if matching == room:  # those after it are for the next time
        upto = last_matching
    return Taken(renewed, in_other_job, exhausted, upto)

"""What the fan-out passed by because it could not be read, and makes up for once it can.

Two kinds of streams are recorded in `webhooks.late`, each with the first position that was passed by: streams
that the feed has parked, whose Events do not exist yet, and endpoints that cannot be read, to which nothing
has been delivered from there on. Both recover when their stream is no longer parked. Nothing is sent twice: a
delivery is unique by Event and endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from ledger.domain import webhook_endpoint
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import UnreadableRecord
from ledger.lru import LruCache
from ledger.postgres.connections import Conn, fetch_all
from ledger.postgres.pipelines import BoundStatement, bind
from ledger.postgres.statements import parse_statement
from ledger.store.codec import Codec, evolve_stored
from ledger.store.log import read_stream
from ledger.webhooks.subscriptions import (
    RANGE_EVENTS_MAX,
    Match,
    find_candidates,
    insert_deliveries,
    load_events_of_accounts,
    load_events_of_stream,
    match,
    read_endpoints,
)

RECOVERED_STREAMS_MAX = 16
# How long a process leaves alone an endpoint that it could not read.
RETRY_SECONDS = 5.0
LOGGED_MAX = 1000
_ENDPOINT_TOPICS = [event.TOPIC for event in webhook_endpoint.EVENTS]

_RECORD_PARKED_STREAMS = parse_statement("""
INSERT INTO webhooks.late (stream, position)
SELECT p.stream, p.position FROM projections.parked p
WHERE (p.projection = 'feed' AND p.generation = %(feed)s
       OR p.projection = 'webhook_endpoints' AND p.generation = %(endpoints)s)
  AND p.position <= %(upto)s
  AND NOT EXISTS (SELECT FROM webhooks.late l WHERE l.stream = p.stream)
""")
_RECORD_UNREADABLE = """
INSERT INTO webhooks.late (stream, position)
SELECT stream, %(position)s FROM unnest(%(streams)s::text[]) AS stream
ON CONFLICT ON CONSTRAINT late_stream DO UPDATE
SET position = excluded.position WHERE late.position > excluded.position
"""
# The first record of an endpoint may be the one that cannot be read: its row still tells that it is one.
_RECOVERED_STREAMS = """
SELECT l.stream, l.position, e.account, e.livemode,
       e.topic = ANY (%(endpoint_topics)s::text[])
       OR EXISTS (SELECT FROM projections.webhook_endpoints w
                  WHERE w.generation = %(endpoints)s AND w.id = l.stream)
FROM webhooks.late l JOIN ledger.events e ON e.originator_id = l.stream AND e.originator_version = 1
WHERE NOT EXISTS (
    SELECT FROM projections.parked p
    WHERE (p.projection = 'feed' AND p.generation = %(feed)s
           OR p.projection = 'webhook_endpoints' AND p.generation = %(endpoints)s)
    AND p.stream = l.stream)
AND l.stream <> ALL (%(held_back)s::text[])
ORDER BY l.position LIMIT %(limit)s
"""
_ACCOUNTS_OF_ENDPOINT = """
SELECT id FROM ledger.accounts WHERE platform = %(account)s AND id <> %(account)s
"""
_MOVE_LATE_STREAM = "UPDATE webhooks.late SET position = %(position)s WHERE stream = %(stream)s"
_DELETE_LATE_STREAM = "DELETE FROM webhooks.late WHERE stream = %(stream)s"

log = structlog.get_logger()


def build_record_parked(feed_generation: int, endpoints_generation: int, upto: int) -> BoundStatement:
    """The statement that records the streams of Events and the endpoints that are parked before the
    checkpoint passes `upto`."""
    bindings = {"feed": feed_generation, "endpoints": endpoints_generation, "upto": upto}
    return bind(_RECORD_PARKED_STREAMS, bindings)


async def record_unreadable(conn: Conn, failures: Iterable[str], position: int) -> None:
    """Record that these endpoints could not be read as of an Event at `position`."""
    if streams := list(failures):
        await conn.execute(_RECORD_UNREADABLE, {"streams": streams, "position": position})


class LateFanout:
    """Fans out for one process what has recovered."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._held_back_until: dict[str, float] = {}
        self._logged: LruCache[str, str] = LruCache(LOGGED_MAX)

    async def fan_out_recovered(
        self, conn: Conn, feed_generation: int, endpoints_generation: int, *, upto: int, now: float
    ) -> tuple[int, bool]:
        """Fan out what was passed by up to `upto`, of some streams that have recovered. Returns how many
        deliveries are new, and whether more is left to do for an endpoint. `now` in unix seconds, by the one
        clock."""
        monotonic_now = asyncio.get_running_loop().time()
        self._held_back_until = {
            stream: until for stream, until in self._held_back_until.items() if until > monotonic_now
        }
        parameters = {
            "feed": feed_generation, "endpoints": endpoints_generation, "limit": RECOVERED_STREAMS_MAX,
            "held_back": list(self._held_back_until), "endpoint_topics": _ENDPOINT_TOPICS,
        }  # fmt: skip
        new_deliveries, has_more = 0, False
        for stream, position, *owner, is_endpoint in await fetch_all(conn, _RECOVERED_STREAMS, parameters):
            if is_endpoint:
                matches = await self._match_endpoint(conn, stream, position, feed_generation, upto)
                has_more |= position - 1 + RANGE_EVENTS_MAX < upto and stream not in self._held_back_until
            else:
                events = await load_events_of_stream(
                    conn, feed_generation, stream, after=position - 1, upto=upto
                )
                candidates = await find_candidates(conn, (owner[0], owner[1]), endpoints_generation)
                matches = []
                for event in events if candidates else ():
                    endpoints, failures = await read_endpoints(conn, self._codec, candidates, event.position)
                    await record_unreadable(conn, failures, event.position)
                    matches += match(event, candidates, endpoints)
                await conn.execute(_DELETE_LATE_STREAM, {"stream": stream})
            new_deliveries += await insert_deliveries(conn, matches, now)
        return new_deliveries, has_more

    async def _match_endpoint(
        self, conn: Conn, endpoint_id: str, position: int, feed_generation: int, upto: int
    ) -> list[Match]:
        """The Events that the endpoint is owed of the next RANGE_EVENTS_MAX positions from `position` on."""
        history: list[tuple[int, WebhookEndpoint]] = []
        state: WebhookEndpoint | None = None
        try:
            for item in await read_stream(conn, self._codec, endpoint_id, upto=upto):
                evolved = evolve_stored(state, item.event)
                assert isinstance(evolved, WebhookEndpoint)
                state = evolved
                history.append((item.position, state))
        except UnreadableRecord as error:
            if self._logged.get(endpoint_id) != str(error):
                log.error("record_unreadable", loop="webhook fan-out", **error.to_log())
                self._logged.put(endpoint_id, str(error))
            self._held_back_until[endpoint_id] = asyncio.get_running_loop().time() + RETRY_SECONDS
            return []
        assert state is not None, "the row's stream has a first event"
        rows = await fetch_all(conn, _ACCOUNTS_OF_ENDPOINT, {"account": state.account})
        accounts = [state.account, *(row[0] for row in rows)]
        last = min(upto, position - 1 + RANGE_EVENTS_MAX)
        events = await load_events_of_accounts(conn, feed_generation, accounts, after=position - 1, upto=last)
        if last < upto:
            await conn.execute(_MOVE_LATE_STREAM, {"stream": endpoint_id, "position": last + 1})
        else:
            await conn.execute(_DELETE_LATE_STREAM, {"stream": endpoint_id})
        matches: list[Match] = []
        for event in events:
            versions = [endpoint for changed_at, endpoint in history if changed_at <= event.position]
            if versions:
                candidates = {(event.account, versions[-1].livemode): [endpoint_id]}
                matches += match(event, candidates, {endpoint_id: versions[-1]})
        return matches

"""A dry run: what a replay would send, counted, and nothing changed."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.webhooks.replays.filters import ReplayFilter
from ledger.webhooks.replays.selection import COUNT_POSITIONS_MAX, Selector, Tally, open_selector
from ledger.webhooks.subscriptions import FeedEvent
from ledger.wire.thin_events import to_thin_id, to_thin_type

SHOWN_EVENTS_MAX = 10


class Preview(NamedTuple):
    """What a replay of these filters would send. `shown` has its first Events, `last` its last one."""

    chosen: ReplayFilter
    tally: Tally
    shown: list[FeedEvent]
    last: FeedEvent | None

    def to_json(self) -> dict[str, Any]:
        """As the API and `--json` show it."""
        first = self.shown[0] if self.shown else None
        return {
            "object": "webhook_replay_preview",
            "dry_run": True,
            "endpoint": self.chosen.endpoint,
            "account": self.chosen.account,
            "livemode": self.chosen.livemode,
            "from": self.chosen.window_from,
            "to": self.chosen.window_to,
            "only_failed": self.chosen.only_failed,
            "object_id": self.chosen.object,
            "total": self.tally.by_type.total(),
            "unreadable": self.tally.unreadable,
            "by_type": dict(sorted(self.tally.by_type.items())),
            "first": None if first is None else _render(first),
            "last": None if self.last is None else _render(self.last),
            "events": [event.id for event in self.shown],
        }


async def preview_replay(conn: Conn, codec: Codec, chosen: ReplayFilter) -> Preview:
    """Count the Events that `chosen` wants, a bounded part of the log at a time; they are shown as the
    receiver gets them. Raises psycopg.Error."""
    selector = await open_selector(conn, codec, chosen)
    tally = Tally()
    for after in range(chosen.after, chosen.upto, COUNT_POSITIONS_MAX):
        tally.add(await selector.count(conn, after, min(chosen.upto, after + COUNT_POSITIONS_MAX)))
    shown, last = await _find_ends(conn, selector, chosen, tally)
    if chosen.thin:
        tally.by_type = Counter({to_thin_type(name): number for name, number in tally.by_type.items()})
        shown, last = [_to_thin(event) for event in shown], None if last is None else _to_thin(last)
    return Preview(chosen, tally, shown, last)


async def _find_ends(
    conn: Conn, selector: Selector, chosen: ReplayFilter, tally: Tally
) -> tuple[list[FeedEvent], FeedEvent | None]:
    """The first SHOWN_EVENTS_MAX Events and the last one; what cannot be read is passed over."""
    if tally.first is None or tally.last is None:
        return [], None
    shown: list[FeedEvent] = []
    after = tally.first - 1
    while len(shown) < SHOWN_EVENTS_MAX and after < tally.last:
        selection = await selector.select(conn, after, SHOWN_EVENTS_MAX * 2)
        shown += selection.events
        after = selection.upto
    last = await selector.select(conn, tally.last - 1, SHOWN_EVENTS_MAX)
    of_last = [event for event in last.events if event.position == tally.last]
    return shown[:SHOWN_EVENTS_MAX], of_last[-1] if of_last else None


def _to_thin(event: FeedEvent) -> FeedEvent:
    return event._replace(id=to_thin_id(event.id), type=to_thin_type(event.type))


def _render(event: FeedEvent) -> dict[str, Any]:
    return {"id": event.id, "type": event.type, "created": event.created}

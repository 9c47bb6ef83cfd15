"""A dry run: what a retry would make due, counted by endpoint and state, and nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from ledger.store.log import read_states_at
from ledger.webhooks.retries.filters import RetryFilter
from ledger.webhooks.retries.progress import Obstacle, show_filters, show_left_out
from ledger.webhooks.retries.selection import COUNT_ROWS_MAX, Tally, count_deliveries

_POSITION_MAX = 2**63 - 1


class PreviewPart(NamedTuple):
    """What matches of one endpoint; with an `obstacle` nothing of it is made due."""

    endpoint: str
    obstacle: Obstacle | None
    tally: Tally

    @property
    def left_out(self) -> dict[str, int]:
        """How many would not be made due, by why."""
        if self.obstacle is not None:
            return {self.obstacle: self.tally.matched}
        return show_left_out(self.tally.in_other_job, self.tally.exhausted)

    @property
    def due(self) -> int:
        """How many would be made due."""
        return self.tally.matched - sum(self.left_out.values())


class RetryPreview(NamedTuple):
    """What a retry would make due; unless `is_complete`, there may be more."""

    chosen: RetryFilter
    parts: Sequence[PreviewPart]
    is_complete: bool

    @property
    def due(self) -> int:
        """How many would be made due."""
        return sum(part.due for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """As the API and `--json` show it."""
        parts = [
            {
                "endpoint": part.endpoint,
                "by_state": dict(sorted(part.tally.by_state.items())),
                "due": part.due,
                "left_out": part.left_out,
            }
            for part in self.parts
        ]
        return {
            "object": "webhook_retry_preview",
            "dry_run": True,
            "account": self.chosen.account,
            "livemode": self.chosen.livemode,
            "filters": show_filters(self.chosen.request, self.chosen.states),
            "due": self.due,
            "matched": sum(part.tally.matched for part in self.parts),
            "is_complete": self.is_complete,
            "endpoints": parts,
        }


def find_obstacle(endpoint: WebhookEndpoint) -> Obstacle | None:
    """Why nothing is sent to the endpoint, if so."""
    if endpoint.deleted:
        return "endpoint_deleted"
    return "endpoint_disabled" if endpoint.disabled else None


async def preview_retry(
    conn: Conn, codec: Codec, chosen: RetryFilter, *, now: float, rows_max: int | None = None
) -> RetryPreview:
    """Count what matches at `now` (unix seconds), a bounded number of deliveries at a time, and at most among
    `rows_max`; None: among all. Raises psycopg.Error."""
    states, _ = await read_states_at(conn, codec, chosen.endpoints, _POSITION_MAX)
    rows_left = rows_max
    parts: list[PreviewPart] = []
    for endpoint in chosen.endpoints:
        if rows_left == 0:
            return RetryPreview(chosen, parts, is_complete=False)
        tally, rows_left, is_complete = await _count_endpoint(conn, chosen, endpoint, now, rows_left)
        state = states.get(endpoint)  # one that cannot be read now is waited for
        obstacle = find_obstacle(state) if isinstance(state, WebhookEndpoint) else None
        if tally.matched:
            parts.append(PreviewPart(endpoint, obstacle, tally))
        if not is_complete:
            return RetryPreview(chosen, parts, is_complete=False)
    return RetryPreview(chosen, parts, is_complete=True)


async def _count_endpoint(
    conn: Conn, chosen: RetryFilter, endpoint: str, now: float, rows_left: int | None
) -> tuple[Tally, int | None, bool]:
    tally, after = Tally(), ""
    while True:
        rows = COUNT_ROWS_MAX if rows_left is None else min(COUNT_ROWS_MAX, rows_left)
        counted = await count_deliveries(conn, chosen, endpoint, after, now=now, rows=rows)
        tally.add(counted.tally)
        rows_left = None if rows_left is None else rows_left - counted.rows
        if counted.upto is None:
            return tally, rows_left, True
        if rows_left == 0:
            return tally, 0, False
        after = counted.upto

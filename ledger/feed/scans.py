"""Items that pass a filter, found by the database: for readers far behind who get few of many.

The blocks that all share would have to be rendered for them whole, most of it to be left out. Of an object
the log has an index; of all else so many positions are looked at in one statement as take it some
milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ledger.feed.filters import FeedFilter
from ledger.feed.items import ITEM_COLUMNS, ItemEncoder, encode_sse_item
from ledger.postgres.statements import StatementPool, parse_statement
from ledger.store.codec import Codec
from ledger.store.log import PLANNER_SETTINGS

POSITIONS_MAX = 32_768
"""Positions that one statement looks at."""
ITEMS_MAX = 512
SLICE_ROWS = 128
CONNECTIONS_MAX = 2

# Whoever reads a stream reads it along its own index: without statistics, the planner reads the whole log
# along that of positions.
_RANGE = {
    of_object: f"""
SELECT {ITEM_COLUMNS} FROM ledger.events e
WHERE {position} > %(after)s AND {position} <= %(upto)s
"""  # noqa: S608 (constants)
    for of_object, position in ((True, "(e.notification_id + 0)"), (False, "e.notification_id"))
}
_CONDITIONS = {
    "account": " AND e.account = %(account)s",
    "platform": """ AND e.account = ANY (ARRAY (
    SELECT a.id FROM ledger.accounts a WHERE a.id = %(platform)s OR a.platform = %(platform)s))""",
    "livemode": " AND e.livemode = %(livemode)s",
    "topics": " AND e.topic = ANY (%(topics)s::text[])",
    "stream": " AND e.originator_id = %(stream)s",
}
# Along the index of the stream: of one object the versions have the order of the positions.
_IN_ORDER = {
    True: " ORDER BY e.originator_version LIMIT %(limit)s",
    False: " ORDER BY e.notification_id LIMIT %(limit)s",
}


class ScannedItems:
    """The items that pass, up to the position `upto`; by position, their lines."""

    def __init__(self, upto: int, lines: dict[int, bytes]) -> None:
        self.upto = upto
        self._lines = lines

    @property
    def positions(self) -> list[int]:
        """Their positions, in order."""
        return list(self._lines)

    def join_lines(self, positions: Sequence[int]) -> bytes:
        """The lines of the items at these positions."""
        return b"".join(self._lines[position] for position in positions)

    def encode_sse(self, positions: Sequence[int]) -> bytes:
        """The items at these positions as server-sent events."""
        return b"".join(encode_sse_item(position, self._lines[position]) for position in positions)


class Scanner:
    """Finds items in the log, for one process."""

    def __init__(self, dsn: str, codec: Codec) -> None:
        self._encoder = ItemEncoder(codec)
        self._statements = StatementPool(
            dsn, "ledger_api", name="feed scan", settings=PLANNER_SETTINGS, connections_max=CONNECTIONS_MAX
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._statements.close()

    async def find(self, shown: FeedFilter, after: int, head: int) -> ScannedItems:
        """The next items that pass after a position: up to `head`, which is durable, or as far as one
        statement looks. Raises Unavailable."""
        of_object = shown.stream is not None
        upto = head if of_object else min(head, after + POSITIONS_MAX)
        bindings: dict[str, Any] = {"after": after, "upto": upto, "limit": ITEMS_MAX}
        query = _RANGE[of_object]
        for name, condition in _CONDITIONS.items():
            value = getattr(shown, name)
            if value is not None:
                query += condition
                bindings[name] = sorted(value) if isinstance(value, frozenset) else value
        rows = await self._statements.fetch(parse_statement(query + _IN_ORDER[of_object]), bindings)
        lines = await self._encode(rows)
        return ScannedItems(rows[-1][0] if len(rows) == ITEMS_MAX else upto, lines)

    async def _encode(self, rows: Sequence[tuple[Any, ...]]) -> dict[int, bytes]:
        lines: dict[int, bytes] = {}
        for start in range(0, len(rows), SLICE_ROWS):
            buffer = bytearray()
            part = rows[start : start + SLICE_ROWS]
            begin = 0
            for row, end in zip(part, self._encoder.encode_into(buffer, part), strict=True):
                lines[row[0]] = bytes(buffer[begin:end])
                begin = end
            await asyncio.sleep(0)
        return lines

"""The feed as NDJSON: items, one a line, and at the end a line with the progress.

The answer is whole only with that last line: everything up to `progress` that passes the filter has been sent
then, so `progress` is the next `after`. It also ends with it early: at `limit`, when the process ends, and
when the database is lost for longer than a read may take.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import structlog

from ledger.errors import Unavailable
from ledger.feed.filters import FeedFilter
from ledger.feed.history import History

_encode = msgspec.json.Encoder().encode

log = structlog.get_logger()


def encode_progress(progress: int, head: int) -> bytes:
    """What has been sent, and what there is: the last position of each."""
    return _encode({"progress": progress, "head": head})


async def stream_ndjson(
    history: History, shown: FeedFilter, after: int, head: int, *, limit: int | None = None
) -> AsyncIterator[bytes]:
    """The items after a position up to `head`, which is durable; at most `limit`."""
    position, left = after, limit
    while position < head and left != 0:
        try:
            block = await history.get(position, head)
        except Unavailable as error:
            log.warning("feed_interrupted", position=position, reason=str(error))
            break
        history.read_ahead(block.last, head)
        upto = min(block.last, head)
        if left is None and shown.passes_all:
            lines = block.get_lines(position, upto)
        else:
            positions = shown.select(block, position, upto)
            if left is not None and len(positions) >= left:
                positions = positions[:left]
                upto = positions[-1]
            lines = block.join_lines(positions)
            left = None if left is None else left - len(positions)
        position = upto
        if lines:
            yield lines
    yield encode_progress(position, head) + b"\n"

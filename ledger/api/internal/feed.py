"""The route of the feed by position (docs/feed.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, check_scope
from ledger.audit.moments import POSITION_MAX
from ledger.errors import InvalidParameter
from ledger.feed.feed import Feed
from ledger.feed.filters import FeedFilter, expand_types
from ledger.feed.ndjson import stream_ndjson

TEXT_LENGTH_MAX = 255
TYPES_MAX = 50
LIMIT_MAX = 1_000_000
CHUNK_BYTES = 65_536
"""What is written at once: a reader that takes nothing holds so much, and no more."""


class FeedParams(BaseModel):
    """The query of the feed."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(0, ge=0, le=POSITION_MAX, description="Items after this position.")
    types: list[str] = Field(
        [],
        max_length=TYPES_MAX,
        description="Types of recorded events, repeated or separated by commas. `dispute.*` is all that "
        "begin so.",
        examples=[["dispute.opened", "charge.*"]],
    )
    account: str | None = Field(None, max_length=TEXT_LENGTH_MAX, description="Only items of this account.")
    object: str | None = Field(None, max_length=TEXT_LENGTH_MAX, description="Only items of this object.")
    limit: int | None = Field(None, ge=1, le=LIMIT_MAX, description="At most so many items.")


def feed_routes(callers: Callers, feed: Feed) -> APIRouter:
    """The feed holds whatever state the projections are in: it is read from the log."""
    router = APIRouter(tags=["feed"])
    caller = callers.require_scopes()

    @router.get(
        "/feed",
        summary="Read the log on from a position",
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {
                    "application/x-ndjson": {"schema": {"type": "string"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                }
            }
        },
    )
    async def read_feed(params: Annotated[FeedParams, Query()], exchange: Exchange = caller) -> Response:
        """Items after `after`, one a line; at the end a line with the progress."""
        shown = await _make_filter(callers, exchange, params)
        head, visible = await feed.read_head()
        if params.after > visible:
            raise InvalidParameter(
                f"Position {params.after} is in the future: the last one is {visible}. If the ledger was "
                "restored from an older backup, positions after its last one have been lost, and new ones "
                "mean other events: read docs/feed.md, After a restore.",
                code="position_from_the_future",
                param="after",
            )
        return NdjsonStream(stream_ndjson(feed.history, shown, params.after, head, limit=params.limit))

    return router


async def _make_filter(callers: Callers, exchange: Exchange, params: FeedParams) -> FeedFilter:
    """What the key may read of what is asked for. Raises RequestError."""
    topics = expand_types(_split(params.types))
    if "ledger_feed" in exchange.key.scopes:
        account = params.account or (exchange.account if exchange.as_platform else None)
        return FeedFilter(account=account, topics=topics, stream=params.object)
    check_scope(exchange.key, "feed")
    if params.account is not None:
        await callers.check_account(exchange, params.account)
    own = None if params.account or exchange.as_platform else exchange.account
    account = None if own else params.account or exchange.account
    return FeedFilter(
        account=account, platform=own, livemode=exchange.key.livemode, topics=topics, stream=params.object
    )


def _split(types: Iterable[str]) -> list[str]:
    return [each.strip() for text in types for each in text.split(",") if each.strip()]


class NdjsonStream(Response):
    """Sends what `pieces` gives, as fast as the client takes it."""

    media_type = "application/x-ndjson"

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._pieces:
            for start in range(0, len(piece), CHUNK_BYTES):
                part = piece if len(piece) <= CHUNK_BYTES else piece[start : start + CHUNK_BYTES]
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

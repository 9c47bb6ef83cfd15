"""The route of the feed by position (docs/feed.md)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ledger.accounts import find_account
from ledger.api.authentication import authenticate
from ledger.api.clock import RefreshClock
from ledger.api.console.cookie import read_authorization
from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers, check_scope
from ledger.api.internal.feed_stream import FeedStream
from ledger.api.key_cache import KeyCache
from ledger.api.openapi.answers import answers_with
from ledger.audit.moments import POSITION_MAX
from ledger.errors import InvalidParameter, Unauthenticated, UnknownObject
from ledger.feed.feed import Feed
from ledger.feed.filters import FeedFilter
from ledger.feed.ndjson import stream_ndjson
from ledger.feed.readers import Reader
from ledger.feed.sse import stream_sse
from ledger.postgres.connections import Pool
from ledger.wire.topics import describe_types, expand_types

TEXT_LENGTH_MAX = 255
TYPES_MAX = 50
LIMIT_MAX = 1_000_000
WAIT_SECONDS_MAX = 60
_OBJECT_ID = re.compile(r"[A-Za-z0-9_.:-]+")
_SSE = "text/event-stream"
_LAST_EVENT_ID = "Last-Event-ID"
_ITEM = (
    '{"position":4711,"type":"dispute.updated","object":"du_1","version":2,"account":"acct_1","livemode":false,'
    '"recorded_at":1795888271.916816,"request":"req_1","causation":null,'
    '"events":[{"id":"evt_1","type":"charge.dispute.updated"}],"data":{"at":1795888271}}'
)
_PROGRESS = '{"progress":4711,"head":4800}'
_CONTENT = {
    "application/x-ndjson": {"schema": {"type": "string"}, "example": f"{_ITEM}\n{_PROGRESS}\n"},
    _SSE: {
        "schema": {"type": "string"},
        "example": f"id: 4711\ndata: {_ITEM}\n\nevent: progress\nid: 4711\ndata: {_PROGRESS}\n\n",
    },
}


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
    limit: int | None = Field(None, ge=1, le=LIMIT_MAX, description="NDJSON: at most so many items.")
    wait: float | None = Field(
        None, ge=0, le=WAIT_SECONDS_MAX, description="NDJSON: how many seconds to wait for a first item."
    )


class FeedReaders:
    """Makes a reader of each request. `pool` looks up accounts."""

    def __init__(
        self, feed: Feed, callers: Callers, keys: KeyCache, refresh_clock: RefreshClock, pool: Pool
    ) -> None:
        self.feed = feed
        self._callers = callers
        self._keys = keys
        self._refresh_clock = refresh_clock
        self._pool = pool

    async def make(
        self, exchange: Exchange, params: FeedParams, after: int, *, param: str = "after"
    ) -> tuple[Reader, int]:
        """The reader, and the last position that is durable, which may be before `after`. Raises
        RequestError, which names `param` for `after`, and Unavailable."""
        shown = await self._make_filter(exchange, params)
        durable, head = await self.feed.read_head()
        if after > head:
            raise InvalidParameter(
                f"Position {after} is in the future: the last one is {head}. If the ledger was restored from "
                "an older backup, the events after its last position are lost, and their positions are given "
                "to others: read docs/feed.md, After a restore.",
                code="position_from_the_future",
                param=param,
            )
        self.feed.check_room()  # last: many may ask at the same time
        authorization = read_authorization(exchange.request_headers)
        reader = Reader(shown, after, key=authorization, check_key=partial(self._is_valid, authorization))
        return reader, durable

    async def _make_filter(self, exchange: Exchange, params: FeedParams) -> FeedFilter:
        """What the key may read of what is asked for. Raises RequestError."""
        topics = expand_types(_split(params.types), param="types")
        if params.object is not None and not _OBJECT_ID.fullmatch(params.object):
            raise InvalidParameter(f"Invalid object id: '{params.object[:80]}'.", param="object")
        if "ledger_feed" in exchange.key.scopes:
            account = exchange.account if exchange.as_platform else params.account
            if account is not None:
                await self._check_account(account)
            return FeedFilter(account=account, topics=topics, stream=params.object)
        check_scope(exchange.key, "feed")
        livemode = exchange.key.livemode
        if params.account is not None:
            await self._callers.check_account(exchange, params.account)
        if params.account is None and not exchange.as_platform:
            return FeedFilter(
                platform=exchange.account, livemode=livemode, topics=topics, stream=params.object
            )
        account = params.account or exchange.account
        return FeedFilter(account=account, livemode=livemode, topics=topics, stream=params.object)

    async def _check_account(self, account: str) -> None:
        found = None
        if "\0" not in account:  # no text of the database has this character
            found = await self._pool.run_idempotent(lambda conn: find_account(conn, account))
        if found is None:
            raise UnknownObject("account", account, param="account")

    async def _is_valid(self, authorization: bytes) -> bool:
        """Whether the key is still valid. Raises Unavailable."""
        try:
            await authenticate(self._keys, authorization, await self._refresh_clock())
        except Unauthenticated:
            return False
        return True


def feed_routes(callers: Callers, readers: FeedReaders) -> APIRouter:
    """The feed holds whatever state the projections are in: it is read from the log."""
    router = APIRouter(tags=["feed"])
    caller = callers.require_scopes()

    @router.get(
        "/feed",
        summary="Read the log on from a position",
        response_class=StreamingResponse,
        responses={200: {"description": "Items, and the progress.", "content": _CONTENT}},
    )
    async def read_feed(
        params: Annotated[FeedParams, Query()],
        accept: Annotated[str | None, Header(include_in_schema=False)] = None,
        last_event_id: Annotated[
            str | None, Header(description="Of a stream that goes on: its last id, in place of `after`.")
        ] = None,
        exchange: Exchange = caller,
    ) -> Response:
        """The items after `after`, in the order of their positions, which have no holes. As NDJSON up to the
        head, with the progress as the last line; an answer without it was cut. With `Accept:
        text/event-stream` without end, as server-sent events whose id is the position. Needs the scope `feed`
        for the caller's account and those connected to it, or `ledger_feed` for all."""
        exchange.is_stream = True
        if accept is not None and _SSE in accept.lower():
            _check_sse(params)
            if last_event_id:
                after, param = _parse_position(last_event_id), _LAST_EVENT_ID
            else:  # empty: of a client that has seen no event
                after, param = params.after, "after"
            reader, head = await readers.make(exchange, params, after, param=param)
            return FeedStream(readers.feed, reader, stream_sse(readers.feed, reader, head), _SSE)
        reader, head = await readers.make(exchange, params, params.after)
        lines = stream_ndjson(readers.feed, reader, head, limit=params.limit, wait_seconds=params.wait or 0.0)
        return FeedStream(readers.feed, reader, lines, "application/x-ndjson")

    @router.get(
        "/feed/types", summary="List the types of recorded events", responses=answers_with("feed_type_list")
    )
    async def list_feed_types(exchange: Exchange = caller) -> Response:
        """All that this release records, with the types of the public Events that each makes. For keys that
        may read the feed or Events."""
        if not any(map(exchange.key.allows, ("feed", "ledger_feed"))):
            check_scope(exchange.key, "rak_event_read")
        types = describe_types()
        return JSONResponse(
            {"object": "list", "url": "/internal/v1/feed/types", "data": types, "has_more": False}
        )

    return router


def _check_sse(params: FeedParams) -> None:
    """Raises InvalidParameter for a parameter of NDJSON."""
    for name in ("wait", "limit"):
        if getattr(params, name) is not None:
            raise InvalidParameter(
                f"`{name}` is for NDJSON: server-sent events have no end. Leave it out, or send `Accept: "
                "application/x-ndjson`.",
                param=name,
            )


def _parse_position(last_event_id: str) -> int:
    if not (last_event_id.isascii() and last_event_id.isdecimal()) or int(last_event_id) > POSITION_MAX:
        raise InvalidParameter(
            f"{_LAST_EVENT_ID} is the id of an event of the feed: a position.", param=_LAST_EVENT_ID
        )
    return int(last_event_id)


def _split(types: Sequence[str]) -> list[str]:
    """Raises InvalidParameter for a list that is there and names none: it would mean all."""
    found = [each.strip() for text in types for each in text.split(",") if each.strip()]
    if types and not found:
        raise InvalidParameter("`types` is empty. Leave it out to read all types.", param="types")
    return found

"""Reads the feed over HTTP: one answer, or all that ever comes."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Literal, NoReturn

import httpx

from ledger_feed.backoff import Backoff
from ledger_feed.bodies import NDJSON, SERVER_SENT_EVENTS, Body, EventStreamBody, NdjsonBody
from ledger_feed.errors import (
    FeedRefused,
    KeyRefused,
    LedgerChanged,
    MalformedFeed,
    PositionFromTheFuture,
)
from ledger_feed.items import Batch, Item, LastItem, Progress
from ledger_feed.sequence import Sequence

PATH = "/internal/v1/feed"
HEARTBEAT_SECONDS = 15.0
"""The longest silence of server-sent events."""
GRACE_SECONDS = 15.0
"""What an answer may be late before its connection counts as lost."""
CHECK_SECONDS = 5
"""How long a process of the service may take to learn of an event that another one has sent."""
RETRIED = {408, 425, 429}
"""Refusals that pass by themselves, as all 5xx do."""

Parameters = dict[str, str | int]

_log = logging.getLogger("ledger_feed")


class Interrupted(Exception):
    """The answer ended early, or the service cannot answer now: ask again."""

    def __init__(self, reason: str, seconds_min: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds_min = seconds_min


class Feed:
    """The feed as one key may read it, through one filter.

    `whole_ledger`: the key has the scope ledger_feed and nothing is filtered, so a missing position is an
    error. `transport`: long polls of NDJSON, or server-sent events. `wait_seconds`: how long a poll waits for
    something to come. `client`: an HTTP client with settings of your own (a proxy, certificates), which you
    close.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        types: Iterable[str] = (),
        account: str | None = None,
        object: str | None = None,
        whole_ledger: bool = False,
        transport: Literal["ndjson", "sse"] = "ndjson",
        wait_seconds: int = 20,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        wanted = {"types": ",".join(sorted(types)), "account": account, "object": object}
        self._filter: Parameters = {name: value for name, value in wanted.items() if value}
        if whole_ledger and self._filter:
            raise ValueError("whole_ledger: a filter leaves events out")
        self._whole_ledger = whole_ledger
        self._sends_events = transport == "sse"
        self._wait_seconds = wait_seconds
        self._url = f"{url.rstrip('/')}{PATH}"
        self._authorization = {"authorization": f"Bearer {key}"}
        silence = HEARTBEAT_SECONDS if self._sends_events else wait_seconds
        self._timeout = httpx.Timeout(10.0, read=silence + GRACE_SECONDS)
        self._client = httpx.AsyncClient() if client is None else client
        self._owns_client = client is None

    @property
    def filter(self) -> str:
        """What passes, as one text: the same for the same filter."""
        return json.dumps(self._filter, sort_keys=True)

    async def follow(self, after: int, last: LastItem | None = None) -> AsyncGenerator[Batch]:
        """All that comes after a position, without end.

        Lost connections and a service that is away are retried. Before that, and at the beginning if `last`
        is given, checks that the last item still stands at its position. Raises errors of FeedError.
        """
        backoff = Backoff()
        is_checked = last is None
        while True:
            try:
                if last is not None and not is_checked:
                    await self._check_last(last)
                    is_checked = True
                is_alive = False  # the first batch may come from a service that ends at once
                async with aclosing(self._read(after)) as batches:
                    async for batch in batches:
                        yield batch
                        if is_alive or batch.position > after:
                            backoff.reset()
                        is_alive = True
                        after = batch.position
                        last = batch.items[-1].last if batch.items else last
                backoff.reset()
            except (Interrupted, httpx.TransportError) as error:
                _log.warning(
                    "the feed was interrupted after position %d, and is read again: %r", after, error
                )
                is_checked = False
                await backoff.wait(error.seconds_min if isinstance(error, Interrupted) else 0.0)

    async def _read(self, after: int) -> AsyncGenerator[Batch]:
        """One answer, in batches as its bytes arrive. What came before an interruption holds."""
        form: Body = EventStreamBody() if self._sends_events else NdjsonBody()
        sequence = Sequence(after, whole_ledger=self._whole_ledger)
        parameters = self._filter | {"after": after}
        if not self._sends_events:
            parameters["wait"] = self._wait_seconds
        last: Batch | None = None
        async with aclosing(self._request(parameters, sends_events=self._sends_events)) as chunks:
            async for chunk in chunks:
                batch = sequence.accept(form.accept(chunk))
                if batch.items or batch.head is not None:
                    last = batch
                    yield batch
        if self._sends_events:
            raise Interrupted("the service ended the stream")
        if last is None or last.head is None:
            raise Interrupted("the answer ended without its progress")
        if last.position == after and last.head > after:
            raise Interrupted("the service could not read on")

    async def read_head(self) -> int:
        """The last position of the log, for a consumer that begins with what comes from now on."""
        _, head = await self._read_next({"after": 0})  # unfiltered: the first item ends it
        return head

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owns_client:
            await self._client.aclose()

    async def _check_last(self, last: LastItem) -> None:
        item, head = await self._read_next(self._filter | {"after": last.position - 1, "wait": CHECK_SECONDS})
        if item is None and head >= last.position:
            raise Interrupted("the service could not read on")
        found = item.last if item else None
        if found != last:
            raise LedgerChanged(last.position, _describe(last), _describe(found))

    async def _read_next(self, parameters: Parameters) -> tuple[Item | None, int]:
        """The next item, if there is one, and the head."""
        form = NdjsonBody()
        messages: list[Item | Progress] = []
        async with aclosing(self._request(parameters | {"limit": 1}, sends_events=False)) as chunks:
            async for chunk in chunks:
                messages.extend(form.accept(chunk))
        batch = Sequence(int(parameters["after"]), whole_ledger=False).accept(messages)
        if batch.head is None:
            raise Interrupted("the answer ended without its progress")
        return (batch.items[0] if batch.items else None), batch.head

    async def _request(self, parameters: Parameters, *, sends_events: bool) -> AsyncGenerator[bytes]:
        """The bytes of an answer. Raises FeedRefused, or Interrupted if it cannot be had now."""
        form = SERVER_SENT_EVENTS if sends_events else NDJSON
        async with self._client.stream(
            "GET",
            self._url,
            params=parameters,
            headers=self._authorization | {"accept": form},
            timeout=self._timeout,
        ) as response:
            if response.status_code != httpx.codes.OK:
                await response.aread()
                _raise_refusal(response)
            found = response.headers.get("content-type", "")
            if found.partition(";")[0].strip() != form:
                raise MalformedFeed(f"{self._url} answers with {found or 'no content type'}, not with {form}")
            async for chunk in response.aiter_bytes():
                yield chunk


def _describe(last: LastItem | None) -> str:
    if last is None:
        return "no event"
    return f"{last.object} version {last.version} (position {last.position})"


def _raise_refusal(response: httpx.Response) -> NoReturn:
    """Raise what an answer that is no success means."""
    status = response.status_code
    if status in RETRIED or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        retry_after = response.headers.get("retry-after", "")
        raise Interrupted(f"status {status}", float(retry_after) if retry_after.isdecimal() else 0.0)
    try:
        error = response.json()["error"]
        message, code, param = error["message"], error.get("code"), error.get("param")
    except (ValueError, KeyError, TypeError):
        raise MalformedFeed(f"{response.url} answers with status {status}: {response.text[:200]}") from None
    kind = KeyRefused if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN) else FeedRefused
    raise (PositionFromTheFuture if code == "position_from_the_future" else kind)(
        status, message, code, param
    )

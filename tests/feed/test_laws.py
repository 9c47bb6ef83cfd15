"""Whatever the filter and wherever the reads are cut: together they are the log, filtered, in order, once."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.accounts import INTERNAL_SCOPES
from ledger.feed.filters import FeedFilter
from ledger.feed.history import BlockReader, History
from ledger.feed.scans import Scanner
from ledger.store.codec import Codec
from tests.api.service import Account, Caller, Registrar, Service, ok
from tests.feed.streams import open_sse, read_feed
from tests.internal.conftest import InternalClient

CUSTOMERS = 700
_LOG = """
SELECT notification_id, account, livemode, topic, originator_id FROM ledger.events ORDER BY notification_id
"""


class LogRow(NamedTuple):
    position: int
    account: str
    livemode: bool
    topic: str
    stream: str


class Stage(NamedTuple):
    """An account with another one connected to it, and one apart; `whole` reads the ledger, `own` what the
    first account may."""

    service: Service
    platform: Account
    connected: Account
    apart: Account
    whole: InternalClient
    own: InternalClient
    writer: Caller

    def read_log(self) -> list[LogRow]:
        with psycopg.connect(self.service.dsn) as conn:
            return [LogRow(*row) for row in conn.execute(_LOG).fetchall()]


@pytest.fixture(scope="module")
def history(service: Service, http: httpx.Client) -> Iterator[Stage]:
    """More than one block of the grid, by several accounts in both modes."""
    registrar = Registrar(service.dsn)
    platform, apart = registrar.account(), registrar.account()
    connected = registrar.account(platform.id)
    for number, account in enumerate((platform, connected, apart)):
        lines = [{"op": "customer", "id": f"cus_feed{number}x{n}"} for n in range(CUSTOMERS // 3)]
        operator = InternalClient(http, registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1])
        body = "\n".join(json.dumps(line) for line in lines)
        answer = http.post(
            "/internal/v1/import", content=body, headers={"authorization": f"Bearer {operator.key}"}
        )
        assert answer.status_code == 200
        assert '"error"' not in answer.text, answer.text
        caller = Caller(http, account.secret)
        caller.dispute()
        ok(Caller(http, account.live_secret).post("/v1/customers", {"name": "Live"}))
    whole = InternalClient(http, registrar.key(platform.id, "rk", scopes=["ledger_feed"])[1])
    own = InternalClient(http, registrar.key(platform.id, "rk", scopes=["feed"])[1])
    yield Stage(service, platform, connected, apart, whole, own, Caller(http, apart.secret))
    registrar.close()


TYPES = st.sampled_from([(), ("customer.created",), ("charge.*", "dispute.opened"), ("dispute.*",)])
CUTS = st.lists(st.integers(1, 40) | st.integers(40, 900), min_size=3, max_size=6).filter(
    lambda cuts: sum(cuts) > 600
)


@settings(max_examples=15)
@given(
    types=TYPES,
    reach=st.sampled_from(["all", "account", "own", "object"]),
    cuts=CUTS,
    # Of the log, which grows while the examples run: what is drawn must not depend on it.
    share=st.floats(0, 1),
)
def test_reads_cut_anywhere_are_the_filtered_log_once_and_in_order(
    history: Stage, types: tuple[str, ...], reach: str, cuts: list[int], share: float
) -> None:
    log = history.read_log()
    shown, expected = _choose(history, log, types, reach)
    after = int(log[-1].position * share)
    reader = history.own if reach == "own" else history.whole
    found: list[int] = []
    position, number = after, 0
    while True:
        limit = cuts[number % len(cuts)]
        answer = read_feed(reader, urlencode({**shown, "after": position, "limit": limit}))
        assert len(answer.items) <= limit
        found += answer.positions
        position, number = answer.progress, number + 1
        if answer.progress >= log[-1].position:
            break
        if number % 3 == 0:
            history.writer.customer()  # while the reads go on
    assert [each for each in found if each <= log[-1].position] == [
        row.position for row in expected if row.position > after
    ]


def _choose(
    history: Stage, log: list[LogRow], types: tuple[str, ...], reach: str
) -> tuple[dict[str, str], list[LogRow]]:
    """A query, and what it must find."""
    families = {pattern.removesuffix("*") for pattern in types}
    rows = [row for row in log if not types or any(row.topic.startswith(each) for each in families)]
    query = {"types": ",".join(types)} if types else {}
    if reach == "account":
        query["account"] = history.connected.id
        rows = [row for row in rows if row.account == history.connected.id]
    elif reach == "own":
        mine = (history.platform.id, history.connected.id)
        rows = [row for row in rows if row.account in mine and not row.livemode]
    elif reach == "object":
        query["object"] = next(row.stream for row in log if row.topic == "dispute.opened")
        rows = [row for row in rows if row.stream == query["object"]]
    return query, rows


@settings(max_examples=6)
@given(cuts=st.lists(st.integers(1, 100), max_size=4))
def test_streams_cut_anywhere_are_the_filtered_log_once_and_in_order(history: Stage, cuts: list[int]) -> None:
    log = history.read_log()
    expected = [row.position for row in log if row.account == history.apart.id]
    query = urlencode({"account": history.apart.id, "types": "customer.*,charge.*,dispute.*"})
    found: list[int] = []
    last_id = 0
    for count in [*cuts, len(log)]:
        with open_sse(history.whole, query, {"last-event-id": str(last_id)}) as events:
            for event in itertools.islice((each for each in events if each.id is not None), count):
                last_id = event.id or 0
                if event.kind == "message":
                    found.append(event.data["position"])
                elif last_id >= expected[-1]:
                    break
    assert found == expected


def test_a_scan_of_the_database_finds_what_is_selected_of_blocks(history: Stage) -> None:
    log = history.read_log()
    dispute = next(row for row in log if row.topic == "dispute.opened")
    filters = [
        FeedFilter(account=history.connected.id),
        FeedFilter(platform=history.platform.id, livemode=False),
        FeedFilter(platform=history.platform.id, livemode=True),
        FeedFilter(topics=frozenset({"dispute.opened", "charge.succeeded"})),
        FeedFilter(stream=dispute.stream),
        FeedFilter(stream=dispute.stream, topics=frozenset({"charge.succeeded"})),
    ]

    async def compare() -> None:
        codec = Codec(b"a key of 32 bytes for the tests.")
        blocks = History(BlockReader(history.service.dsn, codec, name="tests"))
        scanner = Scanner(history.service.dsn, codec)
        head = log[-1].position
        for shown in filters:
            assert await _read_blocks(blocks, shown, head) == await _scan(scanner, shown, head)
        await scanner.close()
        await blocks.close()

    asyncio.run(compare())


async def _read_blocks(blocks: History, shown: FeedFilter, head: int) -> bytes:
    position, lines = 0, b""
    while position < head:
        block = await blocks.get(position, head)
        lines += block.join_lines(shown.select(block, position, head))
        position = block.last
    return lines


async def _scan(scanner: Scanner, shown: FeedFilter, head: int) -> bytes:
    position, lines = 0, b""
    while position < head:
        found: Any = await scanner.find(shown, position, head)
        lines += found.join_lines(found.positions)
        position = found.upto
    return lines

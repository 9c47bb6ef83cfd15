"""What the Python library makes of answers that the service gives seldom, or that come from elsewhere."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from ledger_feed import Feed, FeedError, LastItem, LedgerChanged
from ledger_feed.items import Batch
from tests.feed_clients.answers import END, ITEM, PASSING, REFUSED, Answer, open_server


async def follow_until_5(url: str, last: LastItem | None = None) -> list[Batch]:
    """The batches up to position 5."""
    feed = Feed(url, "rk_test_key", types=["charge.*"])
    batches = []
    try:
        async with aclosing(feed.follow(4, last)) as following:
            async for batch in following:
                batches.append(batch)
                if batch.position == 5:
                    break
    finally:
        await feed.aclose()
    return batches


@pytest.mark.parametrize("first", PASSING.values(), ids=PASSING)
def test_what_passes_by_itself_is_asked_for_again(first: Answer) -> None:
    with open_server([first, Answer(ITEM + END)]) as (url, paths):
        batches = asyncio.run(follow_until_5(url))
    assert [item.position for batch in batches for item in batch.items] == [5]
    assert paths == ["/internal/v1/feed?types=charge.%2A&after=4&wait=20"] * 2


def test_an_answer_that_is_cut_between_two_lines_holds_and_is_continued_after_it() -> None:
    """The consumer goes on after the item, once that still stands at its position."""
    again = ITEM.replace(b'"position":5', b'"position":6')
    end = Answer(again + b'{"progress":6,"head":6}\n')

    async def read_two() -> list[int]:
        feed = Feed(url, "rk_test_key")
        positions: list[int] = []
        async with aclosing(feed.follow(4)) as following:
            async for batch in following:
                positions.extend(item.position for item in batch.items)
                if batch.position == 6:
                    break
        await feed.aclose()
        return positions

    with open_server([Answer(ITEM), Answer(ITEM + END), end]) as (url, paths):
        assert asyncio.run(read_two()) == [5, 6]
    assert paths[1:] == [
        "/internal/v1/feed?after=4&wait=5&limit=1",
        "/internal/v1/feed?after=5&wait=20",
    ]


@pytest.mark.parametrize(("answer", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_pass_by_itself_is_an_error_that_shows_it(
    answer: Answer, kind: str, message: str
) -> None:
    with open_server([answer]) as (url, paths), pytest.raises(FeedError) as raised:
        asyncio.run(follow_until_5(url))
    assert type(raised.value).__name__ == kind
    assert message in str(raised.value)
    assert len(paths) == 1


def test_a_service_that_cannot_read_on_has_not_lost_the_last_event() -> None:
    """It ends its answer early, such as when it is stopped: the head shows that there is more."""
    last = LastItem(5, "ch_1", 1)
    with open_server([Answer(b'{"progress":4,"head":5}\n'), Answer(ITEM + END)]) as (url, paths):
        assert [batch.position for batch in asyncio.run(follow_until_5(url, last))] == [5]
    assert len(paths) == 3
    with (
        open_server([Answer(b'{"progress":4,"head":4}\n')]) as (url, _),
        pytest.raises(LedgerChanged, match="shows no event"),
    ):
        asyncio.run(follow_until_5(url, last))

"""What a consumer applies is the log up to its position: each event once, in order, whatever happens.

The state machine runs the pure parts of the Python library (bodies, sequence, batches) on one side and the
bytes of a service on the other. A network cuts, consumers die between handler and commit, two instances run
at once. A faulty server that repeats, leaves out or swaps lines must be found out before anything of it is
applied.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger_feed.backoff import Backoff
from ledger_feed.bodies import Body, EventStreamBody, NdjsonBody
from ledger_feed.errors import FeedIncomplete, FeedOutOfOrder, MalformedFeed
from ledger_feed.items import Batch, Item, PositionMovedBack, Progress, parse_message
from ledger_feed.sequence import Sequence

TYPES = ("charge.captured", "dispute.opened")
NUMBERS = (0, 1)
"""Of the two instances."""


def make_members(position: int, type_: str = TYPES[0]) -> dict[str, Any]:
    """An item as the service sends it. Names have characters of several bytes, which a cut may part."""
    return {
        "position": position, "type": type_, "object": f"ch_{position}", "version": 1, "account": "acct_1",
        "livemode": False, "recorded_at": 1795000000.25, "request": None, "causation": None, "events": [],
        "data": {"name": "Zoë 漢"},
    }  # fmt: skip


def encode_line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode() + b"\n"


def encode_ndjson(positions: list[dict[str, Any]], progress: int, head: int) -> bytes:
    lines = [encode_line(members) for members in positions]
    return b"".join(lines) + encode_line({"progress": progress, "head": head})


def encode_event_stream(positions: list[dict[str, Any]], progress: int, head: int) -> bytes:
    items = [b"id: %d\ndata: %s\n" % (each["position"], encode_line(each)) for each in positions]
    end = encode_line({"progress": progress, "head": head})
    return (
        b"retry: 1000\n\n: a comment\n\n" + b"".join(items) + b"event: progress\nid: 1\ndata: " + end + b"\n"
    )


class Instance(NamedTuple):
    """A process of the consumer: an answer that it reads, and what has come of it and is not applied yet."""

    body: Body
    sequence: Sequence
    bytes_to_come: bytearray
    batches: list[Batch]


class Consumers(RuleBasedStateMachine):
    """The log, one consumer in one or two instances, and its database: what it applied, and its position."""

    @initialize(whole_ledger=st.booleans(), sends_events=st.booleans(), kept_back=st.integers(0, 2))
    def begin(self, whole_ledger: bool, sends_events: bool, kept_back: int) -> None:
        self.whole_ledger = whole_ledger
        self.sends_events = sends_events
        self.log: list[str] = []
        self.position = 0
        self.applied: list[int] = []
        self.kept_back = kept_back
        self.instances = {number: self.ask() for number in NUMBERS}

    def list_passing(self, after: int, upto: int) -> list[dict[str, Any]]:
        return [
            make_members(position, type_)
            for position, type_ in enumerate(self.log, start=1)
            if after < position <= upto and (self.whole_ledger or type_ == TYPES[0])
        ]

    @rule(number=st.sampled_from(NUMBERS))
    def restart(self, number: int) -> None:
        """An instance was killed, or lost its connection, and asks again."""
        self.instances[number] = self.ask()

    def ask(self) -> Instance:
        """A question after the committed position. The service answers up to its head, or to a limit."""
        head = len(self.log)
        upto = max(self.position, head - self.kept_back)
        encode = encode_event_stream if self.sends_events else encode_ndjson
        answer = encode(self.list_passing(self.position, upto), upto, head)
        body: Body = EventStreamBody() if self.sends_events else NdjsonBody()
        sequence = Sequence(self.position, whole_ledger=self.whole_ledger)
        return Instance(body, sequence, bytearray(answer), [])

    @rule(
        number=st.sampled_from(NUMBERS),
        appended=st.lists(st.sampled_from(TYPES), max_size=5),
        part=st.sampled_from([1.0, 1.0, 0.7, 0.4, 0.01]),
        items_max=st.integers(1, 4),
        commits_max=st.sampled_from([99, 99, 99, 1, 0, None]),
    )
    def go_on(
        self, number: int, appended: list[str], part: float, items_max: int, commits_max: int | None
    ) -> None:
        """More is appended, some bytes arrive, and an instance applies what it has; unless it is slow (None),
        or dies after so many transactions. What does not arrive before a restart was cut off."""
        self.log.extend(appended)
        if not self.instances[number].bytes_to_come and not self.instances[number].batches:
            self.instances[number] = self.ask()
        instance = self.instances[number]
        length = round(part * len(instance.bytes_to_come))
        chunk = bytes(instance.bytes_to_come[:length])
        del instance.bytes_to_come[:length]
        instance.batches.append(instance.sequence.accept(instance.body.accept(chunk)))
        if commits_max is not None:
            if not self.apply(instance.batches, items_max, commits_max):
                self.instances[number] = self.ask()
            instance.batches.clear()

    def apply(self, batches: list[Batch], items_max: int, commits_max: int) -> bool:
        """What transactions do, once each holds the row of the position. False if the instance died."""
        parts = [part for batch in batches for part in batch.split(items_max)]
        for part in parts[:commits_max]:
            try:
                new = part.list_after(self.position)
            except PositionMovedBack:
                return False
            self.applied.extend(item.position for item in new)
            self.position = max(self.position, part.position)
        return len(parts) <= commits_max

    @rule(steps=st.integers(1, 3))
    def set_back(self, steps: int) -> None:
        """An operator undoes what was applied after a position, and sets it in the database."""
        self.position = max(0, self.position - steps)
        self.applied = [position for position in self.applied if position <= self.position]

    @invariant()
    def everything_up_to_the_position_is_applied_once_and_in_order(self) -> None:
        if hasattr(self, "log"):
            passing = self.list_passing(0, self.position)
            assert self.applied == [members["position"] for members in passing]


Consumers.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestConsumers = Consumers.TestCase


@st.composite
def draw_positions(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A position, and those that follow it without holes."""
    after = draw(st.integers(0, 1000))
    return after, list(range(after + 1, after + 1 + draw(st.integers(2, 12))))


@given(draw_positions(), st.data())
@settings(max_examples=60)
def test_a_server_that_leaves_out_a_position_of_the_whole_ledger_is_found_out(
    drawn: tuple[int, list[int]], data: st.DataObject
) -> None:
    after, positions = drawn
    missing = data.draw(st.sampled_from(positions))
    answer = encode_ndjson(
        [make_members(position) for position in positions if position != missing],
        positions[-1],
        positions[-1],
    )
    with pytest.raises(FeedIncomplete) as raised:
        Sequence(after, whole_ledger=True).accept(NdjsonBody().accept(answer))
    assert (raised.value.previous, raised.value.position) == (
        missing - 1,
        positions[-1] if missing == positions[-1] else missing + 1,
    )


@given(draw_positions(), st.booleans(), st.data())
@settings(max_examples=60)
def test_a_server_that_repeats_or_swaps_positions_is_found_out(
    drawn: tuple[int, list[int]], whole_ledger: bool, data: st.DataObject
) -> None:
    after, positions = drawn
    first = data.draw(st.integers(0, len(positions) - 2))
    if data.draw(st.booleans()):
        positions.insert(first + 1, positions[first])
    else:
        positions[first], positions[first + 1] = positions[first + 1], positions[first]
    answer = encode_ndjson([make_members(position) for position in positions], max(positions), max(positions))
    with pytest.raises((FeedOutOfOrder, FeedIncomplete)):
        Sequence(after, whole_ledger=whole_ledger).accept(NdjsonBody().accept(answer))


def test_what_was_applied_before_comes_again_only_as_an_error() -> None:
    """Such as an older answer that a cache has kept."""
    with pytest.raises(FeedOutOfOrder, match="position 7 came after position 9"):
        Sequence(9, whole_ledger=False).accept([Item.from_members(make_members(7))])


def test_a_filtered_feed_has_holes_and_progress_says_that_nothing_is_in_them() -> None:
    items = [Item.from_members(make_members(position)) for position in (3, 9)]
    batch = Sequence(0, whole_ledger=False).accept([*items, Progress(12, 20)])
    assert batch == Batch(0, 12, tuple(items), head=20)


@given(st.integers(1, 30), st.integers(1, 12))
def test_parts_of_a_batch_follow_each_other_without_a_gap(count: int, items_max: int) -> None:
    items = tuple(Item.from_members(make_members(position)) for position in range(1, count + 1))
    parts = list(Batch(0, count + 5, items, head=count + 5).split(items_max))
    assert [item for part in parts for item in part.items] == list(items)
    assert [part.after for part in parts] == [0, *(part.position for part in parts[:-1])]
    assert parts[-1].position == count + 5
    assert all(part.position == part.items[-1].position for part in parts[:-1])


@pytest.mark.parametrize("line", [b"<html>", b"[1]", b"7", b'{"position":1}', b'{"progress":1}', b"\xff"])
def test_a_line_that_is_no_item_is_an_error_that_shows_it(line: bytes) -> None:
    with pytest.raises(MalformedFeed, match="feed"):
        parse_message(line)


def test_members_of_a_later_release_are_kept_and_do_not_disturb() -> None:
    item = Item.from_members(make_members(1) | {"colour": "blue"})
    assert item.members["colour"] == "blue"


def test_an_event_that_the_service_cannot_read_is_an_item_with_the_reason() -> None:
    members = make_members(1) | {"unreadable": "unknown_version", "events": None}
    del members["data"]
    item = Item.from_members(members)
    assert (item.unreadable, item.data, item.events) == ("unknown_version", None, None)


def test_waits_double_up_to_a_limit_and_begin_again_after_a_success() -> None:
    backoff = Backoff(seconds_first=0.1, seconds_max=2.0)
    waits = [max(_next_waits(backoff, failure)) for failure in range(8)]
    assert all(wait <= 0.1 * 2**failure for failure, wait in enumerate(waits))
    assert max(waits) <= 2.0
    for _ in range(2000):
        backoff.next_wait_seconds()
    backoff.reset()
    assert backoff.next_wait_seconds() <= 0.1


def _next_waits(backoff: Backoff, failures: int) -> list[float]:
    """Draws of the wait after so many failures."""
    waits = []
    for _ in range(20):
        backoff.reset()
        for _ in range(failures):
            backoff.next_wait_seconds()
        waits.append(backoff.next_wait_seconds())
    return waits

"""Make a stream again from the log, from any position, with its settings and its durable consumers.

What a stream holds cannot be changed, only deleted: so it is deleted and made again, and beginning with the
first position all events are published again. As sequences are positions, a consumer goes on at the same
number: where it was, or at the first message that was not the log's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ledger.errors import SettingError
from ledger.feed.jetstream.comparison import Difference, describe_difference, find_difference, make_config
from ledger.feed.jetstream.first_sequence import create_stream_at
from ledger.feed.jetstream.stream import Consumer, Stream, StreamInfo
from ledger.feed.jetstream.window import IN_FLIGHT_MAX
from ledger.feed.source import LogSource


class ConsumerPlan(NamedTuple):
    """A durable consumer: `goes_on_at` is the first position that it is delivered then. `read_upto` is the
    last one that it has read; `again` and `missed` are how many it gets again, and how many it never gets."""

    consumer: Consumer
    goes_on_at: int
    read_upto: int
    again: int
    missed: int


class RepairPlan(NamedTuple):
    """What `repair` does.

    old         the stream as it is
    difference  its first message that is not the log's
    first       the position at which the new one begins
    upto        up to here it is published at once
    temporary   how many consumers that are not durable end
    """

    name: str
    old: StreamInfo
    difference: Difference | None
    first: int
    upto: int
    consumers: list[ConsumerPlan]
    temporary: int

    @property
    def read_upto(self) -> int:
        """The last position that some consumer needs to be there to go on."""
        return max((plan.goes_on_at - 1 for plan in self.consumers), default=0)

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        state = self.old.state
        return {
            "stream": self.name,
            "had": {"first": state.begins_at, "last": state.last_seq, "messages": state.messages},
            "first_difference": None if self.difference is None else self.difference.position,
            "first": self.first,
            "last": self.upto,
            "consumers": [
                {
                    "name": plan.consumer.name,
                    "read_upto": plan.read_upto,
                    "goes_on_at": plan.goes_on_at,
                    "again": plan.again,
                    "missed": plan.missed,
                }
                for plan in self.consumers
            ],
            "temporary_consumers": self.temporary,
        }

    def describe(self) -> list[str]:
        """Lines for the operator who is to agree."""
        state = self.old.state
        holds = f"positions {state.begins_at} to {state.last_seq}" if state.messages else "nothing"
        lines = [f"Stream {self.name} holds {holds}."]
        if self.difference is not None:
            lines.append(f"{describe_difference(self.name, self.difference).partition('. ')[0]}.")
        count = max(0, self.upto - self.first + 1)
        lines.append(f"It is deleted and made again from position {self.first}; {count} messages follow.")
        for name, plan in ((plan.consumer.name, plan) for plan in self.consumers):
            line = f"Consumer {name} had read up to {plan.read_upto} and goes on at {plan.goes_on_at}"
            line += f"; it gets {plan.again} positions again" if plan.again else ""
            line += f"; it never gets {plan.missed} positions" if plan.missed else ""
            lines.append(f"{line}.")
        if self.temporary:
            lines.append(f"{self.temporary} consumers that are not durable end.")
        if self.consumers or self.temporary:
            lines.append("Begin the programs that consume it anew afterwards: they do not notice.")
        return lines


async def plan_repair(stream: Stream, source: LogSource, first: int | None) -> RepairPlan:
    """What is to be done to make the stream again from position `first`; None: from where it begins.

    Raises SettingError when there is no such stream or position, NatsUnavailable, and what `source` raises.
    """
    info = await stream.read()
    if info is None:
        raise SettingError(f"--stream: there is no stream {stream.name}; ledger feed publish makes it")
    durable, head = await source.read_durable(), (await source.read_head()).position
    first = info.state.begins_at if first is None else first
    if first > head + 1:
        raise SettingError(f"--from: position {first} is in the future: the log ends at {head}")
    known = min(info.state.last_seq, head)
    difference = await _find_first_difference(stream, source, info.state.begins_at, known)
    if difference is None and info.state.last_seq > head:
        difference = Difference(head + 1, is_missing=False)
    good = info.state.last_seq if difference is None else difference.position - 1
    consumers = await stream.list_consumers()
    plans = [_plan_consumer(consumer, good, first) for consumer in consumers if consumer.is_durable]
    temporary = len(consumers) - len(plans)
    return RepairPlan(stream.name, info, difference, first, durable, plans, temporary)


async def remake_stream(stream: Stream, plan: RepairPlan, prefix: str) -> None:
    """Delete the stream, and make it as planned, without messages and consumers. Raises NatsUnavailable."""
    await stream.delete()
    replicas = plan.old.config.get("num_replicas", 1)
    old = {name: value for name, value in plan.old.config.items() if name not in ("first_seq", *_GIVEN_UP)}
    await create_stream_at(stream, old | make_config(prefix, replicas) | _kept(plan.old.config), plan.first)


async def remake_consumers(stream: Stream, plan: RepairPlan) -> None:
    """Make the consumers as planned, once the stream has the positions before those at which they go on:
    NATS would let them begin at its end. Raises NatsUnavailable; what is missing then is made by hand."""
    for each in plan.consumers:
        await stream.create_consumer(each.consumer.name, _make_consumer_config(each))


# What would let a sequence be no position (`comparison`).
_GIVEN_UP = ("mirror", "sources", "subject_transform", "no_ack", "sealed", "allow_rollup_hdrs")
_CHOSEN_BY_OPERATORS = ("description", "storage", "discard", "num_replicas")


def _kept(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in _CHOSEN_BY_OPERATORS if name in config}


def _plan_consumer(consumer: Consumer, good: int, first: int) -> ConsumerPlan:
    goes_on_at = max(first, min(consumer.position, good) + 1)
    again = max(0, consumer.position - goes_on_at + 1)
    missed = max(0, goes_on_at - min(consumer.position, good) - 1)
    return ConsumerPlan(consumer, goes_on_at, consumer.position, again, missed)


def _make_consumer_config(plan: ConsumerPlan) -> dict[str, Any]:
    config = {name: value for name, value in plan.consumer.config.items() if name != "opt_start_time"}
    return config | {"deliver_policy": "by_start_sequence", "opt_start_seq": plan.goes_on_at}


async def _find_first_difference(
    stream: Stream, source: LogSource, first: int, last: int
) -> Difference | None:
    """The first message that is not the log's. Only the last ones can be wrong one by one (`comparison`); of
    a log that was restored from a backup, all are wrong from some position on, which is found by halving."""
    tail = max(first, last - IN_FLIGHT_MAX + 1)
    found = await find_difference(stream, source, tail, last)
    if found is None or found.position > tail:
        return found
    low, high = first, tail
    while low < high:
        middle = (low + high) // 2
        difference = await find_difference(stream, source, middle, middle)
        if difference is None:
            low = middle + 1
        else:
            found, high = difference, middle
    return found

"""How soon 1,000 readers of the feed have what a POST recorded, at 200 events a second.

Each reader has a connection of its own. They share the machine's cores with the service, its Postgres and the
load generator: the note says what the readers themselves took. An event that a reader missed, or got twice,
ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from typing import NamedTuple

from benchmarks.feed.readers import Report, find_latencies_ms, run_readers
from benchmarks.load import Latency, Request
from benchmarks.measurement import Effort
from benchmarks.paced_load import Answer, send_each, summarize
from benchmarks.report import Figure, Goal, figure
from benchmarks.routes import CUSTOMER_FORM
from benchmarks.service import Service

READERS = 1000
EVENTS_PER_SECOND = 200
PACED_SECONDS = 4.0
PACED_SECONDS_QUICK = 1.5
WARM_UP_ROUNDS = 1
CREATED, UPDATED = "customer.created", "customer.updated"
GOAL_MS = Goal(250, is_maximum=True)

_HEAD = "SELECT position FROM ledger.head"
_RECORDED = """
SELECT notification_id, request_id, topic, originator_id FROM ledger.events
WHERE notification_id > %s AND request_id IS NOT NULL ORDER BY notification_id
"""


class Recorded(NamedTuple):
    """An event that a POST recorded, and the answer to this POST."""

    position: int
    type: str
    object: str
    answer: Answer

    def passes(self, filter_: str) -> bool:
        """Whether a reader with the filter (`types=…`, `object=…` or "") gets it."""
        return filter_ in ("", f"types={self.type}", f"object={self.object}")


class _Round(NamedTuple):
    """The latencies of one round to all readers, from when POSTs were due and from their answers; those of
    the POSTs; and the share of a core that the readers took."""

    sent: Latency
    answered: Latency
    post: Latency
    readers_share: float


def measure(service: Service, effort: Effort) -> list[Figure]:
    """Readers of all events, readers of one type of two, and readers of one object each."""
    customers = [
        str(service.create("/v1/customers", {"name": f"Customer {number}"})["id"])
        for number in range(READERS)
    ]
    created = create_customers(service)
    updated = _update_customers(service, customers)
    both = chain.from_iterable(zip(created, updated, strict=True))
    types = [f"types={CREATED if number % 2 else UPDATED}" for number in range(READERS)]
    return [
        *_measure(service, effort, "of all events", [""] * READERS, created, goal=GOAL_MS),
        *_measure(service, effort, "of one type of two", types, both),
        *_measure(service, effort, "of one object each", [f"object={each}" for each in customers], updated),
    ]


def create_customers(service: Service) -> Iterator[Request]:
    """POSTs that each record one event, without end."""
    while True:
        yield Request(service.port, "POST", "/v1/customers", service.secret, CUSTOMER_FORM)


def read_head(service: Service) -> int:
    """The last position of the log."""
    with service.connect() as conn:
        row = conn.execute(_HEAD).fetchone()
    assert row is not None, "the log has a head"
    return int(row[0])


def _update_customers(service: Service, customers: Sequence[str]) -> Iterator[Request]:
    """An update of each customer in turn, each with a change of its own, without end."""
    for number in count():
        customer = customers[number % len(customers)]
        form = f"metadata[order]={number}"
        yield Request(service.port, "POST", f"/v1/customers/{customer}", service.secret, form)


def _measure(
    service: Service,
    effort: Effort,
    which: str,
    filters: Sequence[str],
    requests: Iterator[Request],
    *,
    goal: Goal | None = None,
) -> list[Figure]:
    seconds = PACED_SECONDS if effort.rounds > 1 else PACED_SECONDS_QUICK
    rounds = []
    with run_readers(service.port, service.operator_key, filters, after=read_head(service)) as readers:
        for _ in range(effort.rounds + WARM_UP_ROUNDS):
            head, started = read_head(service), time.monotonic()
            batch = list(islice(requests, round(seconds * EVENTS_PER_SECOND)))
            answers = send_each(batch, per_second=EVENTS_PER_SECOND)
            recorded = _read_recorded(service, head, answers)
            passing = {
                each: [event for event in recorded if event.passes(each)] for each in dict.fromkeys(filters)
            }
            expected = [passing[each] for each in filters]
            report = readers.collect([len(events) for events in expected])
            share = report.cpu_seconds / (time.monotonic() - started)
            rounds.append(_summarize(report, expected, answers, share))
    return list(_build_figures(which, rounds[WARM_UP_ROUNDS:], goal))


def _read_recorded(service: Service, after: int, answers: Sequence[Answer]) -> list[Recorded]:
    by_request = {each.request_id: each for each in answers}
    with service.connect() as conn:
        rows = conn.execute(_RECORDED, (after,)).fetchall()
    recorded = [
        Recorded(position, topic, stream, by_request[request])
        for position, request, topic, stream in rows
        if request in by_request
    ]
    if len(recorded) != len(answers):
        raise RuntimeError(f"{len(answers)} POSTs recorded {len(recorded)} events, not one each")
    return recorded


def _summarize(
    report: Report, expected: Sequence[Sequence[Recorded]], answers: Sequence[Answer], share: float
) -> _Round:
    sent: list[float] = []
    answered: list[float] = []
    for reader, events in zip(report.readers, expected, strict=True):
        sent += find_latencies_ms(reader.chunks, {each.position: each.answer.due_at for each in events})
        answered += find_latencies_ms(
            reader.chunks, {each.position: each.answer.answered_at for each in events}
        )
    return _Round(_take_latency(sent), _take_latency(answered), summarize(answers), share)


def _take_latency(latencies_ms: list[float]) -> Latency:
    latencies_ms.sort()
    return Latency(latencies_ms[len(latencies_ms) // 2], latencies_ms[len(latencies_ms) * 99 // 100])


def _build_figures(which: str, rounds: Sequence[_Round], goal: Goal | None) -> Iterator[Figure]:
    group = f"feed, {READERS:,} readers {which} at {EVENTS_PER_SECOND} events/s"
    share = max(each.readers_share for each in rounds)
    note = f"the readers' own process took {share:.0%} of a core"
    yield figure(group, "p50 from POST to reader", [each.sent.median_ms for each in rounds], "ms")
    p99s = [each.sent.p99_ms for each in rounds]
    yield figure(group, "p99 from POST to reader", p99s, "ms", goal=goal, note=note)
    yield figure(group, "p50 from answer to reader", [each.answered.median_ms for each in rounds], "ms")
    yield figure(group, "p99 from answer to reader", [each.answered.p99_ms for each in rounds], "ms")
    yield figure(group, "p99 of the POST", [each.post.p99_ms for each in rounds], "ms")

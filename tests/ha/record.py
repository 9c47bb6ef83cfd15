"""What the clients of `tests.ha.load` remember; `tests.ha.laws` judges it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple


class Target(NamedTuple):
    """The service to load, and the keys of an account there: a secret one, and an operator's for the internal
    API."""

    url: str
    account: str
    secret: str
    operator: str


class Write(NamedTuple):
    """A write that was answered with success. `mark`: only this write adds it to the metadata of its object;
    empty for an object without metadata. `key`: the idempotency key that its events have in the log; empty
    for what was sent without one, and for what the network reported."""

    id: str
    mark: str
    key: str
    at: float


class Request(NamedTuple):
    """A request of a bare client. `status` is None if there was no answer. `retry`: Stripe-Should-Retry."""

    method: str
    path: str
    started_at: float
    seconds: float
    status: int | None
    retry: str | None
    error: str


class Failure(NamedTuple):
    """An error that the official client raised to its application, after all its retries."""

    what: str
    error: str
    at: float


class Call(NamedTuple):
    """A write that can be sent again under the same key: `send` returns the id of the object and the body of
    the answer. `mark` and `key` as in `Write`."""

    mark: str
    key: str
    send: Callable[[], tuple[str, str]]


class Record:
    """Everything that the clients were answered. `contradictions`: answers that contradict an earlier one.
    `unresolved`: keyed writes whose outcome nobody knows yet."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.failures: list[Failure] = []
        self.requests: list[Request] = []
        self.contradictions: list[str] = []
        self.unresolved: list[Call] = []
        self.crashes: list[BaseException] = []

    def find_gap(self, since: float = 0.0) -> float:
        """The longest time between two acknowledged writes that follow each other, of any client."""
        times = sorted(write.at for write in self.writes if write.at >= since)
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def find_longest_request(self) -> float:
        """The seconds of the longest request of a bare client."""
        return max((request.seconds for request in self.requests), default=0.0)

    def count_statuses(self) -> Mapping[int | None, int]:
        """How often the bare clients were answered each status."""
        statuses = [request.status for request in self.requests]
        return {status: statuses.count(status) for status in set(statuses)}

"""Clients that write and read while something fails, and remember every answer, for tests of failovers.

Some are the official client with its retries, as applications use it; some are bare: they send each request
once, and so see what the service answers. `Record` is what they remember; `tests.ha.laws` judges it.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
import stripe

from ledger.accounts import INTERNAL_SCOPES
from tests.api.service import Registrar, name_bases

SDK_RETRIES = 6
BARE_TIMEOUT_SECONDS = 60.0
"""Far above the limit of the service, so that a request which exceeds that is seen to."""
SDK_CALL_SECONDS_MAX = 120.0
"""No call of the official client takes longer: seven requests and the pauses between them."""
KEPT_REPEATS = 40


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
    for what the network reported, whose events name its reference instead."""

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


class _Client:
    """One client, in a thread of its own: it takes its steps in a random order, but the same in each run."""

    def __init__(self, name: str, target: Target, record: Record) -> None:
        self.name = name
        self.target = target
        self.record = record
        self.random = random.Random(name)
        self.repeats: deque[tuple[Call, str, str]] = deque(maxlen=KEPT_REPEATS)
        self._count = 0

    @property
    def steps(self) -> Sequence[Callable[[], None]]:
        """What it does; the more often a step is named, the more often it is taken."""
        raise NotImplementedError

    def run(self, stop: threading.Event, pause_seconds: float) -> None:
        """Take steps until `stop`."""
        try:
            while not stop.wait(pause_seconds * self.random.uniform(0.5, 1.5)):
                self.random.choice(self.steps)()
        except BaseException as error:
            self.record.crashes.append(error)
            raise

    def new_mark(self) -> str:
        """A name that no other write has."""
        self._count += 1
        return f"{self.name}_{self._count}"

    def acknowledge(self, call: Call, id: str, body: str) -> None:
        """Remember a write that was answered with success."""
        self.record.writes.append(Write(id, call.mark, call.key, time.monotonic()))
        self.repeats.append((call, id, body))

    def check_repeat(self, call: Call, first: tuple[str, str], again: tuple[str, str]) -> None:
        """A write that is sent again under its key is answered with the same bytes."""
        if first != again:
            self.record.contradictions.append(f"{call.mark or call.key}: first {first}, repeated {again}")


class SdkClient(_Client):
    """An application with the official client, which sends a request up to seven times."""

    def __init__(self, name: str, target: Target, record: Record) -> None:
        super().__init__(name, target, record)
        self.client = stripe.StripeClient(
            target.secret, base_addresses=name_bases(target.url), max_network_retries=SDK_RETRIES
        )
        self.customers: deque[str] = deque(maxlen=5)

    @property
    def steps(self) -> Sequence[Callable[[], None]]:
        return (
            self.create_customer,
            self.create_customer,
            self.update_customer,
            self.update_customer,
            self.create_payment_intent,
            self.create_dispute,
            self.create_session,
            self.repeat,
            self.read,
            self.list_customers,
        )

    def create_customer(self) -> None:
        """A customer, half of the time under a key of its own choice."""
        mark = self.new_mark()
        created = self.write(
            mark, lambda options: self.client.v1.customers.create(_build_customer(mark), options)
        )
        if created is not None:
            self.customers.append(created.id)

    def update_customer(self) -> None:
        """A change of a customer of its own; all other changes of it must stay."""
        if not self.customers:
            return
        mark, id = self.new_mark(), self.random.choice(self.customers)
        self.write(
            mark, lambda options: self.client.v1.customers.update(id, {"metadata": {mark: "1"}}, options)
        )

    def create_payment_intent(self) -> None:
        """A payment that succeeds at once."""
        mark = self.new_mark()
        params: Any = {
            "amount": 1000 + self.random.randrange(9000),
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "metadata": {mark: "1"},
        }
        self.write(mark, lambda options: self.client.v1.payment_intents.create(params, options))

    def create_dispute(self) -> None:
        """A charge that is disputed at once; the dispute is found and changed."""
        mark, change = self.new_mark(), self.new_mark()
        params: Any = {
            "amount": 2000, "currency": "usd", "source": "tok_createDispute", "metadata": {mark: "1"},
        }  # fmt: skip
        charge = self.write(mark, lambda options: self.client.v1.charges.create(params, options))
        if charge is None:
            return
        page = self.ask("list disputes", lambda: self.client.v1.disputes.list({"charge": charge.id}))
        if page is None:
            return
        if page.data:
            id = page.data[0].id
            self.write(
                change,
                lambda options: self.client.v1.disputes.update(id, {"metadata": {change: "1"}}, options),
            )
        elif "ledger-behind-events" not in page.last_response.headers:
            self.record.contradictions.append(f"{charge.id}: a list that is not behind has no dispute of it")

    def create_session(self) -> None:
        """A customer session, which has no metadata: the log knows it by its key."""
        if not self.customers:
            return
        params: Any = {
            "customer": self.random.choice(self.customers),
            "components": {"payment_element": {"enabled": True}},
        }
        self.write("", lambda options: self.client.v1.customer_sessions.create(params, options))

    def repeat(self) -> None:
        """An earlier write once more under its key, as an application does that was restarted."""
        if self.repeats:
            call, *first = self.random.choice(self.repeats)
            again = self.ask(f"repeat {call.mark or call.key}", call.send)
            if again is not None:
                self.check_repeat(call, (first[0], first[1]), again)

    def read(self) -> None:
        """A customer that was acknowledged is there, with all its acknowledged changes."""
        if not self.customers:
            return
        id = self.random.choice(self.customers)
        marks = {write.mark for write in list(self.record.writes) if write.id == id and write.mark}
        customer = self.ask(f"retrieve {id}", lambda: self.client.v1.customers.retrieve(id))
        if customer is not None and (missing := marks - set(read_metadata(customer))):
            self.record.contradictions.append(f"{id}: a read does not show {sorted(missing)}")

    def list_customers(self) -> None:
        """The newest customers, as a page of an application shows them."""
        self.ask("list customers", lambda: self.client.v1.customers.list({"limit": 5}))

    def write(self, mark: str, send: Callable[[Any], Any]) -> Any:
        """The object, once the write is acknowledged; None if the client gave up."""
        key = self.random.choice([f"key-{uuid.uuid4()}", ""])
        options = {"idempotency_key": key} if key else {}
        created = self.ask(f"write {mark}", lambda: send(options))
        if created is None:
            if key:
                self.record.unresolved.append(Call(mark, key, lambda: _read(send(options))))
            return None
        named = created.last_response.headers["idempotency-key"]
        again = Call(mark, named, lambda: _read(send({"idempotency_key": named})))
        self.acknowledge(again, *_read(created))
        return created

    def ask(self, what: str, send: Callable[[], Any]) -> Any:
        """The answer; None, and a failure on record, if the client raises its error."""
        try:
            return send()
        except stripe.StripeError as error:
            self.record.failures.append(Failure(what, f"{type(error).__name__}: {error}", time.monotonic()))
            return None


class BareClient(_Client):
    """Plain HTTP without any retry: what the service itself answers, and how soon."""

    def __init__(self, name: str, target: Target, record: Record) -> None:
        super().__init__(name, target, record)
        self.http = httpx.Client(base_url=target.url, timeout=BARE_TIMEOUT_SECONDS)
        self.customer = ""

    @property
    def steps(self) -> Sequence[Callable[[], None]]:
        return (self.create_customer, self.report_dispute, self.repeat, self.read, self.list_customers)

    def create_customer(self) -> None:
        """A customer, under a key."""
        mark = self.new_mark()
        form = {"email": f"{mark}@example.com", f"metadata[{mark}]": "1"}
        id = self.write(mark, "/v1/customers", {"data": form})
        self.customer = id or self.customer

    def report_dispute(self) -> None:
        """A charge of another service, and its dispute, through the internal API."""
        mark, reference = self.new_mark(), self.new_mark()
        body: dict[str, Any] = {"amount": 5000, "currency": "usd", "metadata": {mark: "1"}}
        charge = self.write(mark, "/internal/v1/charges", {"json": body})
        if charge:
            body = {"charge": charge, "kind": "chargeback", "reason": "fraudulent", "reference": reference}
            self.write("", "/internal/v1/disputes", {"json": body}, is_report=True)

    def repeat(self) -> None:
        """An earlier write once more under its key."""
        if self.repeats:
            call, *first = self.random.choice(self.repeats)
            id, body = call.send()
            if id:
                self.check_repeat(call, (first[0], first[1]), (id, body))

    def read(self) -> None:
        """The newest customer of its own."""
        if self.customer:
            answer = self.send("GET", f"/v1/customers/{self.customer}")
            if answer is not None and answer.status_code in (400, 404):
                self.record.contradictions.append(f"{self.customer}: {answer.status_code} to a read")

    def list_customers(self) -> None:
        """A page of customers."""
        self.send("GET", "/v1/customers?limit=5")

    def write(self, mark: str, path: str, body: dict[str, Any], *, is_report: bool = False) -> str:
        """The id of the object, once the write is acknowledged; else an empty text. `is_report`: what it
        reports has happened in the network."""
        key = f"key-{uuid.uuid4()}"
        call = Call(mark, "" if is_report else key, lambda: self.post(path, key, body))
        id, answer = call.send()
        if id:
            self.acknowledge(call, id, answer)
        else:
            self.record.unresolved.append(call)
        return id

    def post(self, path: str, key: str, body: dict[str, Any]) -> tuple[str, str]:
        """The id of the object in the answer and its body; two empty texts unless it is a success."""
        answer = self.send("POST", path, {"headers": {"idempotency-key": key}} | body)
        if answer is None or answer.status_code != 200:
            return "", ""
        return str(answer.json()["id"]), answer.text

    def send(self, method: str, path: str, options: Mapping[str, Any] = {}) -> httpx.Response | None:
        """The answer, put on record; None if the connection ended without one."""
        key = self.target.operator if path.startswith("/internal") else self.target.secret
        headers = {"authorization": f"Bearer {key}"} | options.get("headers", {})
        started = time.monotonic()
        answer, error = None, ""
        try:
            answer = self.http.request(method, path, **{**options, "headers": headers})
        except httpx.HTTPError as failure:
            error = repr(failure)
        seconds = time.monotonic() - started
        status = answer.status_code if answer is not None else None
        retry = answer.headers.get("stripe-should-retry") if answer is not None else None
        if answer is not None and status != 200:
            error = answer.text
        self.record.requests.append(Request(method, path, started, seconds, status, retry, error))
        return answer


class Load:
    """Running clients, and what they were answered so far."""

    def __init__(self, target: Target, clients: Sequence[_Client], record: Record) -> None:
        self.target = target
        self.record = record
        self._clients = clients
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, pause_seconds: float) -> None:
        """Let the clients begin."""
        for client in self._clients:
            thread = threading.Thread(target=client.run, args=(self._stop, pause_seconds), daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait_for_writes(self, count: int, *, seconds: float = 60.0) -> None:
        """Return once `count` more writes are acknowledged."""
        wanted, deadline = len(self.record.writes) + count, time.monotonic() + seconds
        while len(self.record.writes) < wanted:
            assert not self.record.crashes, self.record.crashes
            assert time.monotonic() < deadline, (
                f"{count - wanted + len(self.record.writes)} of {count} writes were acknowledged in "
                f"{seconds:g} s; {self.record.count_statuses()}, {self.record.failures[-1:]}"
            )
            time.sleep(0.02)

    def stop(self) -> None:
        """Let each client end its request, and then stop."""
        self._stop.set()
        deadline = time.monotonic() + SDK_CALL_SECONDS_MAX
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"a client still waits after {SDK_CALL_SECONDS_MAX:g} s"
        assert not self.record.crashes, self.record.crashes

    def resolve(self, *, seconds: float = 60.0) -> None:
        """Repeat each write whose outcome is unknown, under its key, until it is acknowledged: as an
        application does when all is well again."""
        deadline = time.monotonic() + seconds
        while self.record.unresolved:
            call = self.record.unresolved[0]
            try:
                id, _ = call.send()
            except stripe.StripeError:
                id = ""
            if id:
                self.record.writes.append(Write(id, call.mark, call.key, time.monotonic()))
                self.record.unresolved.pop(0)
            else:
                assert time.monotonic() < deadline, f"{call.mark or call.key} is refused for {seconds:g} s"
                time.sleep(0.2)


@contextmanager
def run_load(
    target: Target, *, sdk_clients: int = 4, bare_clients: int = 2, pause_seconds: float = 0.06
) -> Iterator[Load]:
    """Clients that run until the end of the block, or until they are stopped before."""
    record = Record()
    clients: list[_Client] = [SdkClient(f"sdk{number}", target, record) for number in range(sdk_clients)]
    clients += [BareClient(f"bare{number}", target, record) for number in range(bare_clients)]
    load = Load(target, clients, record)
    load.start(pause_seconds)
    try:
        yield load
    finally:
        load._stop.set()


def open_target(url: str, dsn: str) -> Target:
    """A new account of the service at `url`, whose database is at `dsn`, with its keys."""
    registrar = Registrar(dsn)
    account = registrar.account()
    operator = registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1]
    registrar.close()
    return Target(url, account.id, account.secret, operator)


def read_metadata(item: Any) -> dict[str, str]:
    """The metadata of an object that the official client returned."""
    return item.metadata.to_dict() if item.metadata else {}


def _build_customer(mark: str) -> Any:
    return {"email": f"{mark}@example.com", "metadata": {mark: "1"}}


def _read(answer: Any) -> tuple[str, str]:
    """What identifies the object, and the body, of an answer that the official client returned."""
    body = str(answer.last_response.body)
    return str(getattr(answer, "id", None) or answer.customer), body

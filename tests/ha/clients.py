"""The clients of `tests.ha.load`. One is the official client with its retries, as applications use it; the
other is bare: it sends each request once, and so sees what the service itself answers."""

from __future__ import annotations

import random
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import stripe

from tests.api.service import name_bases
from tests.ha.record import Call, Failure, Record, Request, Target, Write

SDK_RETRIES = 6
BARE_TIMEOUT_SECONDS = 60.0
"""Far above the limit of the service, so that a request which exceeds that is seen to."""
KEPT_REPEATS = 40


class Client(ABC):
    """One client, in a thread of its own: it takes its steps in a random order, but the same in each run."""

    def __init__(self, name: str, target: Target, record: Record) -> None:
        self.name = name
        self.target = target
        self.record = record
        self.random = random.Random(name)
        self.repeats: deque[tuple[Call, str, str]] = deque(maxlen=KEPT_REPEATS)
        self._count = 0

    @property
    @abstractmethod
    def steps(self) -> Sequence[Callable[[], None]]:
        """What it does; the more often a step is named, the more often it is taken."""

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


class SdkClient(Client):
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


class BareClient(Client):
    """Plain HTTP without any retry: what the service itself answers, and how soon."""

    def __init__(self, name: str, target: Target, record: Record) -> None:
        super().__init__(name, target, record)
        self.http = httpx.Client(base_url=target.url, timeout=BARE_TIMEOUT_SECONDS)
        self.customer = ""
        self.change: tuple[str, str] | None = None

    @property
    def steps(self) -> Sequence[Callable[[], None]]:
        return (
            self.create_customer,
            self.change_customer,
            self.report_dispute,
            self.repeat,
            self.read,
            self.list_customers,
        )

    def create_customer(self) -> None:
        """A customer, under a key."""
        mark = self.new_mark()
        form = {"email": f"{mark}@example.com", f"metadata[{mark}]": "1"}
        id = self.write(mark, "/v1/customers", {"data": form})
        self.customer = id or self.customer

    def change_customer(self) -> None:
        """A change without a key, sent until it succeeds, as by somebody who presses the button again. When
        it has been made already, there is nothing to change."""
        if self.change is None and self.customer:
            self.change = self.customer, self.new_mark()
        if self.change is not None:
            id, mark = self.change
            answer = self.send("POST", f"/v1/customers/{id}", {"data": {f"metadata[{mark}]": "1"}})
            if answer is not None and answer.status_code == 200:
                self.record.writes.append(Write(id, mark, "", time.monotonic()))
                self.change = None

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


def read_metadata(item: Any) -> dict[str, str]:
    """The metadata of an object that the official client returned."""
    return item.metadata.to_dict() if item.metadata else {}


def _build_customer(mark: str) -> Any:
    return {"email": f"{mark}@example.com", "metadata": {mark: "1"}}


def _read(answer: Any) -> tuple[str, str]:
    """What identifies the object, and the body, of an answer that the official client returned."""
    body = str(answer.last_response.body)
    return str(getattr(answer, "id", None) or answer.customer), body

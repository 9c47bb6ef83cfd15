"""A random story of an account, and what the public API showed after each of its steps.

The official client makes the objects. Every personal value in them contains MARK, also names of metadata.
"""

from __future__ import annotations

import io
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
import msgspec
import psycopg
import stripe

from ledger.accounts import INTERNAL_SCOPES
from ledger.domain.money import DAY_SECONDS
from tests.api.service import Caller, Registrar, Service, create_client, ok
from tests.internal.conftest import InternalClient

MARK = "Heinzelmann"
MARKED_METADATA: dict[str, str] = {f"of_{MARK}": MARK}
ADDRESS: Any = {"line1": f"{MARK} street", "city": MARK, "country": "DE"}
EXPANSIONS = {
    "charges": ("customer", "balance_transaction.source", "refunds"),
    "customers": ("sources", "default_source.customer"),
    "disputes": ("charge.customer", "balance_transactions.source", "evidence.receipt"),
    "file_links": ("file",),
    "files": ("links.data.file",),
    "payment_intents": ("latest_charge.customer", "customer"),
    "refunds": ("charge", "balance_transaction"),
}

SETTLES_SECONDS = 60
_WAITING = re.compile(r"^ledger_(?:lag_events|deadline_overdue_seconds)\{.*\} (\S+)$", re.MULTILINE)


class Shown(NamedTuple):
    """The public JSON of an object at one moment, and how it was asked for.

    position  of the log's last event
    now       unix seconds on the service's clock
    by_time_only  the clock has passed a deadline since the event at `position`
    """

    object_id: str
    expand: tuple[str, ...]
    body: bytes
    position: int
    now: float
    by_time_only: bool


class Story:
    """An account of the service, whose clock it moves."""

    def __init__(self, service: Service, http: httpx.Client, registrar: Registrar, seed: int) -> None:
        self.account = registrar.account()
        self.raw = Caller(http, self.account.secret)
        scopes = [scope for scope in INTERNAL_SCOPES if scope != "personal_data"]
        self.operator = InternalClient(http, registrar.key(self.account.id, "rk", scopes=scopes)[1])
        self.auditor = InternalClient(http, registrar.key(self.account.id, "rk", scopes=INTERNAL_SCOPES)[1])
        self.client = create_client(service, self.account.secret)
        self.rng = random.Random(seed)
        self.ids: dict[str, list[str]] = {}
        self.shown: list[Shown] = []
        self._conn = psycopg.connect(service.dsn, autocommit=True)

    def run(self, steps: int) -> None:
        """Take `steps` random steps, after one of each kind."""
        kinds = list(STEPS)
        for kind in [*kinds, *self.rng.choices(kinds, k=steps)]:
            position = self.head
            with suppress(
                stripe.InvalidRequestError, stripe.CardError
            ):  # the object's state may not allow it
                kind(self)
            self.remember(by_time_only=self.head == position)

    def settle(self) -> None:
        """Wait until every due date that has passed was acted on, and each projection has it: from then on
        nothing changes by itself."""
        quiet = 0
        deadline = time.monotonic() + SETTLES_SECONDS
        while quiet < 2:  # a due date may be acted on between the measurements of one answer
            measured = _WAITING.findall(self.raw.get("/metrics").text)
            assert measured
            quiet = 0 if any(map(float, measured)) else quiet + 1
            assert time.monotonic() < deadline, measured
            time.sleep(0.02)

    def close(self) -> None:
        self._conn.close()

    @property
    def head(self) -> int:
        row = self._conn.execute("SELECT position FROM ledger.head").fetchone()
        assert row is not None
        return int(row[0])

    def now(self) -> float:
        return float(ok(self.operator.post("/clock", {"advance_seconds": 0.001}))["now"])

    def pick(self, plural: str) -> str:
        """One of the objects of a kind, a new one more often than an old one."""
        known = self.ids[plural]
        return self.rng.choice(known[-3:])

    def add(self, plural: str, made: Any) -> Any:
        self.ids.setdefault(plural, []).append(made.id)
        return made

    def remember(self, *, by_time_only: bool) -> None:
        """Keep what is shown of the newest objects of each kind. Deadlines act when they want: if one did
        meanwhile, ask again."""
        while True:
            position, now = self.head, self.now()
            shown = [
                each
                for plural, ids in self.ids.items()
                for object_id in dict.fromkeys(ids[-2:])
                for each in self._show(plural, object_id, position, now, by_time_only)
            ]
            if self.head == position:
                self.shown += shown
                return

    def _show(
        self, plural: str, object_id: str, position: int, now: float, by_time_only: bool
    ) -> list[Shown]:
        shown = []
        for expand in ((), EXPANSIONS.get(plural, ())):
            query = "&".join(f"expand[]={name}" for name in expand)
            response = self.raw.get(f"/v1/{plural}/{object_id}?{query}")
            if response.status_code == 404:  # a deleted object without a stub
                continue
            body = msgspec.json.encode(without_secret(msgspec.json.decode(response.content)))
            assert response.status_code == 200, response.text
            shown.append(Shown(object_id, expand, body, position, now, by_time_only))
        return shown


def without_secret(shown: Any) -> Any:
    """An object as audit shows it: only an answer about a payment intent itself has its client secret."""
    if shown["object"] == "payment_intent":
        assert shown["client_secret"].startswith(f"{shown['id']}_secret_")
        return shown | {"client_secret": None}
    return shown


def create_customer(story: Story) -> None:
    params: Any = {
        "name": MARK,
        "email": f"{MARK}@example.com",
        "description": MARK,
        "address": ADDRESS,
        "metadata": MARKED_METADATA,
        "source": "tok_visa",
    }
    story.add("customers", story.client.v1.customers.create(params))


def update_customer(story: Story) -> None:
    params: Any = {"phone": f"{MARK} {story.rng.random()}", "metadata": {"x": MARK, f"of_{MARK}": ""}}
    story.client.v1.customers.update(story.pick("customers"), params)


def delete_customer(story: Story) -> None:
    story.client.v1.customers.delete(story.pick("customers"))
    create_customer(story)


def create_charge(story: Story) -> None:
    params: Any = {"amount": 2000, "currency": "usd", "description": MARK, "metadata": MARKED_METADATA}
    if story.rng.random() < 0.5:
        params |= {"source": "tok_visa", "capture": story.rng.random() < 0.5}
    else:
        params |= {"customer": story.pick("customers")}
    story.add("charges", story.client.v1.charges.create(params))


def capture_charge(story: Story) -> None:
    story.client.v1.charges.capture(story.pick("charges"), {"amount": 1500})


def refund_charge(story: Story) -> None:
    params: Any = {"amount": 2000, "currency": "usd", "source": "tok_visa"}
    charge = story.add("charges", story.client.v1.charges.create(params))
    params = {"charge": charge.id, "amount": 100, "metadata": MARKED_METADATA}
    story.add("refunds", story.client.v1.refunds.create(params))


def dispute_charge(story: Story) -> None:
    params: Any = {"amount": 3000, "currency": "eur", "source": "tok_createDispute", "description": MARK}
    charge = story.add("charges", story.client.v1.charges.create(params))
    (dispute,) = story.client.v1.disputes.list({"charge": charge.id}).data
    story.add("disputes", dispute)


def stage_evidence(story: Story) -> None:
    evidence: Any = {"product_description": f"{MARK} {story.rng.random()}", "receipt": story.pick("files")}
    params: Any = {"evidence": evidence, "submit": False, "metadata": MARKED_METADATA}
    story.client.v1.disputes.update(story.pick("disputes"), params)


def win_dispute(story: Story) -> None:
    params: Any = {"evidence": {"uncategorized_text": "winning_evidence"}, "submit": True}
    story.client.v1.disputes.update(story.pick("disputes"), params)


def concede_dispute(story: Story) -> None:
    story.client.v1.disputes.close(story.pick("disputes"))


def upload_file(story: Story) -> None:
    content = io.BytesIO(b"%PDF-1.4 " + MARK.encode())
    content.name = f"{MARK}.pdf"
    params: Any = {"purpose": "dispute_evidence", "file": content}
    story.add("files", story.client.v1.files.create(params))


def link_file(story: Story) -> None:
    params: Any = {"file": story.pick("files"), "metadata": MARKED_METADATA}
    if story.rng.random() < 0.5:
        params["expires_at"] = int(story.now()) + DAY_SECONDS
    story.add("file_links", story.client.v1.file_links.create(params))


def create_intent(story: Story) -> None:
    params: Any = {
        "amount": 700,
        "currency": "usd",
        "payment_method": "pm_card_visa",
        "description": MARK,
        "receipt_email": f"{MARK}@example.com",
        "metadata": MARKED_METADATA,
        "capture_method": story.rng.choice(("automatic", "manual")),
        "shipping": {"name": MARK, "address": ADDRESS},
    }
    story.add("payment_intents", story.client.v1.payment_intents.create(params))


def confirm_intent(story: Story) -> None:
    params: Any = {"payment_method_types": ["card"]}
    story.client.v1.payment_intents.update(story.pick("payment_intents"), params)
    story.client.v1.payment_intents.confirm(story.pick("payment_intents"))


def cancel_intent(story: Story) -> None:
    story.client.v1.payment_intents.cancel(story.pick("payment_intents"))


def create_endpoint(story: Story) -> None:
    params: Any = {
        "url": f"https://example.com/{MARK}",
        "enabled_events": ["invoice.paid"],
        "description": MARK,
        "metadata": MARKED_METADATA,
    }
    story.add("webhook_endpoints", story.client.v1.webhook_endpoints.create(params))


def update_endpoint(story: Story) -> None:
    params: Any = {"disabled": story.rng.random() < 0.5, "description": f"{MARK} {story.rng.random()}"}
    story.client.v1.webhook_endpoints.update(story.pick("webhook_endpoints"), params)


def publish_invoice(story: Story) -> None:
    invoices = story.ids.setdefault("invoices", [])
    if not invoices or story.rng.random() < 0.5:
        invoices.append(f"in_{story.account.id}_{len(invoices)}")
    invoice = story.pick("invoices")
    content = {"customer_email": MARK, "total": story.rng.randrange(10), "lines": [{"text": MARK}]}
    body = {"event_type": "invoice.updated", "object": content}
    ok(story.operator.call("PUT", f"/resources/invoice/{invoice}", body))


def unpublish_invoice(story: Story) -> None:
    story.operator.call("DELETE", f"/resources/invoice/{story.pick('invoices')}")


def request_erasure(story: Story) -> None:
    """A redaction job that a legal hold stops: nothing is erased."""
    customer = story.ids["customers"][0]
    ok(story.operator.post("/legal_holds", {"object": customer, "reason": MARK}))
    headers = {"stripe-version": "2026-09-30.preview", "authorization": f"Bearer {story.account.secret}"}
    form = {"objects[customers][0]": customer}
    ok(story.operator.http.post("/v1/privacy/redaction_jobs", data=form, headers=headers))


def create_session(story: Story) -> None:
    """The public API shows a session once, so it is not remembered."""
    params: Any = {"customer": story.pick("customers"), "components": {"pricing_table": {"enabled": True}}}
    story.client.v1.customer_sessions.create(params)


def import_event(story: Story) -> None:
    shown = {"id": "in_old", "object": "invoice", "customer_email": MARK}
    name = f"evt_{story.account.id}_{story.rng.random()}"
    line = {"op": "event", "id": name, "type": "invoice.paid", "object": shown}
    headers = {"authorization": f"Bearer {story.operator.key}"}
    content = msgspec.json.encode(line)
    answer = story.raw.http.post("/internal/v1/import", content=content, headers=headers)
    assert "error" not in answer.text, answer.text


def pass_days(story: Story) -> None:
    """Due dates and authorizations pass."""
    ok(story.operator.post("/clock", {"advance_seconds": story.rng.choice((1, 8, 40)) * DAY_SECONDS}))


STEPS: tuple[Callable[[Story], None], ...] = (
    create_customer,
    upload_file,
    create_charge,
    dispute_charge,
    stage_evidence,
    create_intent,
    confirm_intent,
    create_endpoint,
    publish_invoice,
    create_session,
    import_event,
    capture_charge,
    refund_charge,
    update_customer,
    link_file,
    pass_days,
    win_dispute,
    dispute_charge,
    stage_evidence,
    concede_dispute,
    cancel_intent,
    update_endpoint,
    unpublish_invoice,
    delete_customer,
)

"""The business of an account, which the questions of docs/analysis.md are about: months of imported history,
and what the official client did since."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import stripe

from ledger.accounts import INTERNAL_SCOPES
from ledger.domain.money import DAY_SECONDS
from tests.api.service import Registrar, Service, create_client
from tests.webhooks.receiver import Receiver, ScriptedResponse, wait_until

HOOKS = ("/hooks/reliable", "/hooks/unsteady")
KINDS = {6: "inquiry", 14: "inquiry", 16: "prevented"}
"""Of the disputes of the history, by number; all others are chargebacks."""


class Business:
    """An account in test mode with a key for what `act` does.

    moment   a time at which `disputed` had staged evidence and no decision
    changed  a customer, created and updated
    """

    def __init__(self, service: Service, http: httpx.Client, registrar: Registrar) -> None:
        self.account = registrar.account()
        self.key_id, secret = registrar.key(self.account.id)
        self.client = create_client(service, secret)
        self.live_client = create_client(service, self.account.live_secret)
        self.stranger = create_client(service, registrar.account().secret)
        self.importer = registrar.key(self.account.id, "rk", scopes=INTERNAL_SCOPES)[1]
        self.http = http
        self.started_at = int(time.time())
        self.disputed = ""
        self.moment = 0.0
        self.changed = ""
        self.endpoints: dict[str, str] = {}

    def run(self, receiver: Receiver) -> None:
        """All of it, until each Event has been delivered."""
        receiver.scripts[HOOKS[1]] = [ScriptedResponse(status=500), ScriptedResponse()]
        for path in HOOKS:
            types: list[Any] = ["customer.created", "charge.succeeded"]
            params: Any = {"url": receiver.url(path), "enabled_events": types}
            self.endpoints[path] = self.client.v1.webhook_endpoints.create(params).id
        self.import_history()
        for client in (self.live_client, self.stranger):
            self.charge(client, "tok_visa" if client is not self.live_client else None)
        self.change_customer()
        self.take_payments()
        self.answer_disputes()
        wait_until(self.has_delivered_all)

    def has_delivered_all(self) -> bool:
        """Whether nothing is owed to a receiver."""
        events = self.client.v1.events.list({"limit": 100}).auto_paging_iter()
        return not any(event.pending_webhooks for event in events)

    def import_history(self) -> None:
        """Send the lines of `describe_history`."""
        content = b"\n".join(msgspec.json.encode(line) for line in self.describe_history())
        headers = {"authorization": f"Bearer {self.importer}"}
        answer = self.http.post("/internal/v1/import", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        assert "error" not in answer.text

    def describe_history(self) -> Iterator[dict[str, Any]]:
        """Charges of three months in three currencies; some are refunded, some disputed."""
        now, account = self.started_at, self.account.id
        for name in ("ada", "bob"):
            yield {"op": "customer", "id": f"cus_{name}_{account}"}
        for number in range(24):
            currency, brand = ("usd", "eur", "jpy")[number % 3], ("visa", "mastercard")[number % 2]
            charge, created = f"ch_{number}_{account}", now - (100 - 4 * number) * DAY_SECONDS
            details = {"type": "card", "card": {"brand": brand}}
            yield {
                "op": "charge", "id": charge, "amount": 1000 + 100 * number, "currency": currency,
                "created": created, "customer": f"cus_{('ada', 'bob')[number % 5 == 0]}_{account}",
                "captured": number != 7, "payment_method_details": details,
            }  # fmt: skip
            if number % 6 == 1 and number != 7:
                yield {
                    "op": "refund", "id": f"re_{number}_{account}", "charge": charge, "amount": 300,
                    "created": created + DAY_SECONDS,
                }  # fmt: skip
            if number % 4 == 2 or number in KINDS:
                yield from self._describe_dispute(number, charge, created + 2 * DAY_SECONDS)

    def _describe_dispute(self, number: int, charge: str, created: int) -> Iterator[dict[str, Any]]:
        dispute = f"du_{number}_{self.account.id}"
        kind = KINDS.get(number, "chargeback")
        reason = "product_not_received" if number % 8 == 2 else "fraudulent"
        due_by = self.started_at + (number - 15) * DAY_SECONDS
        yield {
            "op": "dispute", "id": dispute, "charge": charge, "kind": kind, "reason": reason,
            "created": created, "due_by": due_by, "reference": f"opened {dispute}",
        }  # fmt: skip
        facts = {2: "won", 6: "escalated", 10: "lost", 14: "inquiry_closed"}
        if number in facts:
            yield {
                "op": "fact", "dispute": dispute, "fact": facts[number], "reference": f"then {dispute}",
                "created": created + 3 * DAY_SECONDS,
            }  # fmt: skip

    def charge(self, client: stripe.StripeClient, source: str | None) -> stripe.Charge | None:
        """A charge; in live mode, where there is no test card, a customer instead."""
        if source is None:
            client.v1.customers.create({})
            return None
        return client.v1.charges.create({"amount": 2000, "currency": "usd", "source": source})

    def change_customer(self) -> None:
        """Create and update a customer, the update with an idempotency key of its own."""
        self.changed = self.client.v1.customers.create({"name": "Ada"}).id
        key = f"update {self.account.id}"
        self.client.v1.customers.update(self.changed, {"name": "Eva"}, {"idempotency_key": key})

    def take_payments(self) -> None:
        """Charges of all kinds: paid, available at once, declined, authorized, refunded."""
        charges = self.client.v1.charges
        for source in ("tok_visa", "tok_bypassPending"):
            charges.create({"amount": 2000, "currency": "usd", "source": source})
        with pytest.raises(stripe.CardError):
            charges.create({"amount": 2000, "currency": "usd", "source": "tok_chargeDeclined"})
        held = charges.create({"amount": 1500, "currency": "eur", "source": "tok_visa", "capture": False})
        charges.capture(held.id, {"amount": 1000})
        charges.create({"amount": 700, "currency": "eur", "source": "tok_visa", "capture": False})
        paid = charges.create({"amount": 900, "currency": "jpy", "source": "tok_visa"})
        self.client.v1.refunds.create({"charge": paid.id, "amount": 400})

    def answer_disputes(self) -> None:
        """Four new disputes: open, conceded, won; and a lost one with a file as evidence."""
        disputes = self.client.v1.disputes
        self.dispute()
        disputes.close(self.dispute())
        self.disputed = self.dispute()
        params: Any = {"evidence": {"product_description": "A book"}, "submit": False}
        disputes.update(self.disputed, params)
        self.moment = time.time()
        time.sleep(0.01)
        file: Any = io.BytesIO(b"%PDF-1.4 a receipt")
        receipt = self.client.v1.files.create({"purpose": "dispute_evidence", "file": file}).id
        lost = self.dispute()
        for dispute, text in ((self.disputed, "winning_evidence"), (lost, "losing_evidence")):
            params = {"evidence": {"uncategorized_text": text, "receipt": receipt}}
            disputes.update(dispute, params)
        for dispute in (self.disputed, lost):
            wait_until(lambda: disputes.retrieve(dispute).status in ("won", "lost"))  # noqa: B023

    def dispute(self) -> str:
        """The id of the dispute of a new charge."""
        source = "tok_createDispute"
        charge = self.client.v1.charges.create({"amount": 2500, "currency": "usd", "source": source})
        return self.client.v1.disputes.list({"charge": charge.id}).data[0].id

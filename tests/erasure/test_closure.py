"""Which streams an erasure reaches, and which it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ledger.accounts import INTERNAL_SCOPES
from ledger.erasure.closure import _list_subjects
from tests.api.service import Caller, ok
from tests.conftest import Cluster
from tests.erasure.stage import Stage, run_stage
from tests.internal.conftest import InternalClient

DISPUTE = {"type": "dispute_opened", "reason": "fraudulent", "network_reason_code": "10.4"}
_REACHED = "SELECT stream FROM ledger.erasure_streams WHERE job = %s"
_OPEN = "SELECT subject FROM ledger.data_keys WHERE wrapped IS NOT NULL"


EXTERNAL = "cus_external"
"""A customer of another system, whom the stranger's invoice names. The first customer's account has published
a review under this id."""


class Reached:
    """Two customers with all that can belong to one, and a stranger: another account with a customer, and
    with an invoice of a customer of another system. The first one was erased."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.ada, self.ben = self._create_all("Ada"), self._create_all("Ben")
        other = stage.registrar.account()
        self.stranger = Caller(stage.http, other.secret)
        scopes = (*INTERNAL_SCOPES, "rak_dispute_read")
        self.strange_operator = InternalClient(
            stage.http, stage.registrar.key(other.id, "rk", scopes=scopes)[1]
        )
        form = {"name": "Stranger"}
        self.stranger_customer = ok(self.stranger.post("/v1/customers", form))["id"]
        invoice = {"customer": EXTERNAL, "customer_email": "external@example.com"}
        self._publish(self.strange_operator, "invoice/in_external", "invoice.created", invoice)
        review = {"charge": self.ada["charge"], "ip_address": "203.0.113.8"}
        self._publish(stage.operator, f"review/{EXTERNAL}", "review.opened", review)
        stage.wait_for_projections()
        self.job = stage.erase(customers=[self.ada["customer"]])
        with psycopg.connect(stage.service.dsn) as conn:
            self.streams = {stream for (stream,) in conn.execute(_REACHED, (self.job,))}
            self.open = {subject for (subject,) in conn.execute(_OPEN)}

    def _create_all(self, name: str) -> dict[str, str]:
        raw, operator = self.stage.raw, self.stage.operator
        customer = ok(raw.post("/v1/customers", {"name": name, "source": "tok_visa"}))["id"]
        charge = ok(raw.post("/v1/charges", {"amount": 2000, "currency": "usd", "customer": customer}))["id"]
        intent = ok(
            raw.post(
                "/v1/payment_intents",
                {"amount": 500, "currency": "usd", "customer": customer, "description": f"for {name}"},
            )
        )["id"]
        ok(raw.post(f"/v1/payment_intents/{intent}/cancel"))
        refund = ok(raw.post("/v1/refunds", {"charge": charge, "amount": 100, "metadata[who]": name}))["id"]
        invoice = f"in_{name}"
        published = {"customer": customer, "customer_email": f"{name}@example.com"}
        self._publish(operator, f"invoice/{invoice}", "invoice.created", published)
        by_charge = {"charge": charge, "ip_address": "203.0.113.7"}
        self._publish(operator, f"review/prv_{name}", "review.opened", by_charge)
        receipt, proof = (self._upload(f"{name} {number}") for number in range(2))
        self._dispute(customer, receipt, proof)
        return {
            "customer": customer, "receipt": receipt, "proof": proof,
            "charge": charge, "intent": intent, "refund": refund, "invoice": invoice,
            "review": f"prv_{name}",
        }  # fmt: skip

    def _upload(self, name: str) -> str:
        form = {"purpose": "dispute_evidence"}
        files = {"file": (f"{name}.pdf", f"%PDF-1.4 {name}".encode())}
        headers = {"authorization": f"Bearer {self.stage.raw.key}"}
        return str(ok(self.stage.http.post("/v1/files", data=form, files=files, headers=headers))["id"])

    def _dispute(self, customer: str, receipt: str, proof: str) -> None:
        """A charge that was disputed, lost, and lost once more after an appeal."""
        raw, source = self.stage.raw, "tok_createDispute"
        form = {"amount": 900, "currency": "usd", "customer": customer, "source": source}
        charge = ok(raw.post("/v1/charges", form))["id"]
        path = f"/disputes/{ok(raw.get(f'/v1/disputes?charge={charge}'))['data'][0]['id']}"
        ok(raw.post(f"/v1{path}", {"evidence[receipt]": receipt, "submit": "false"}))
        for fact in ("lost", "appeal_opened"):
            ok(self.stage.operator.post(f"{path}/facts", {"fact": fact}))
        ok(raw.post(f"/v1{path}", {"evidence[appeal][card][supporting_files][0]": proof}))
        ok(self.stage.operator.post(f"{path}/facts", {"fact": "lost"}))

    @staticmethod
    def _publish(operator: InternalClient, path: str, event_type: str, members: dict[str, Any]) -> None:
        ok(operator.call("PUT", f"/resources/{path}", {"event_type": event_type, "object": members}))


@pytest.fixture(scope="module")
def reached(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    with cluster.create_database() as dsn, run_stage(dsn, tmp_path_factory.mktemp("closure")) as stage:
        yield Reached(stage)


def test_all_that_belongs_to_the_customer_is_reached(reached: Reached) -> None:
    assert set(reached.ada.values()) <= reached.streams


def test_nothing_of_another_customer_is_reached(reached: Reached) -> None:
    assert reached.streams.isdisjoint(reached.ben.values())
    assert {reached.ben["customer"], reached.ben["review"], reached.stranger_customer} <= reached.open


def test_no_key_of_what_is_reached_is_left(reached: Reached) -> None:
    assert reached.streams & reached.open == {EXTERNAL}


def test_a_key_under_which_another_account_has_sealed_something_is_left(reached: Reached) -> None:
    """It is the key of a stream of the erased customer, too, because that has the other one's id."""
    assert EXTERNAL in reached.streams
    shown = reached.strange_operator.get("/audit/objects/in_external").text
    assert "external@example.com" in shown
    not_reached = ok(reached.stage.operator.get(f"/erasures/{reached.job}"))["not_reached"]
    assert not_reached == [f"what is sealed under the keys of {EXTERNAL}: other accounts use them, too"]


def test_what_names_a_charge_of_the_customer_is_redacted_with_it(reached: Reached) -> None:
    shown = reached.stage.operator.get(f"/audit/objects/{reached.ada['review']}").text
    assert "203.0.113.7" not in shown
    assert "203.0.113.7" in reached.stage.operator.get(f"/audit/objects/{reached.ben['review']}").text


def test_the_counts_of_the_event_are_those_of_the_steps(reached: Reached) -> None:
    with psycopg.connect(reached.stage.service.dsn) as conn:
        row = conn.execute("SELECT counts FROM ledger.erasures WHERE job = %s", (reached.job,)).fetchone()
    assert row is not None
    assert row[0]["streams"] == len(reached.streams)
    assert row[0]["rows_customers"] == 1
    assert row[0]["data_keys"] >= 2


@pytest.mark.parametrize(
    ("customers", "subjects"),
    [
        (["cus_1", None], {"cus_1", "pm_1"}),
        (["cus_1", "cus_2"], {"cus_1", "cus_2"}),
        (["cus_1", None, "cus_2"], {"cus_1", "pm_1", "cus_2"}),
    ],
)
def test_what_rows_of_events_before_data_keys_are_sealed_for_is_erased_too(
    customers: list[str | None], subjects: set[str]
) -> None:
    """The events of such a stream are all sealed for its first customer."""
    state = b'{"sealed":"AAAA"}'
    rows = [("pm_1", n, each, "resource", state, "cus_1") for n, each in enumerate(customers, 1)]
    assert _list_subjects(rows) == subjects

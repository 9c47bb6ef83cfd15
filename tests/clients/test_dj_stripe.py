"""dj-stripe, which keeps a copy of an account's objects in the tables of a Django project: copied by its
command, and kept up to date by its webhook view."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.api.service import Account, Service
from tests.clients.conftest import ListRefused
from tests.clients.program import NOWHERE, SCRIPTS, build_environment, find_python, needs, run_to_success
from tests.clients.shop import Shop, list_all
from tests.webhooks.receiver import wait_until

PROGRAM = "dj-stripe"
pytestmark = needs(PROGRAM)

PROJECT = SCRIPTS / "dj_stripe"
DELIVERY_SECONDS = 300
# dj-stripe's models of resources that have objects here, by the client's name of the resource.
MODELS = {
    "BalanceTransaction": "balance_transactions", "Charge": "charges", "Customer": "customers",
    "Dispute": "disputes", "Event": "events", "File": "files", "FileLink": "file_links",
    "Invoice": "invoices", "PaymentIntent": "payment_intents", "Product": "products", "Refund": "refunds",
    "WebhookEndpoint": "webhook_endpoints",
}  # fmt: skip
# Models whose rows belong to objects of others.
PARTS = ("Account", "LineItem", "PaymentMethod")
# The other models that the command reads. Not among them, for no server could serve them: AccountV2, which it
# asks of api.stripe.com whatever the settings say; TaxId, which it asks with a parameter the API has not;
# ActiveEntitlement, which it asks without the customer that the API requires.
EMPTY_MODELS = (
    "ApplicationFee", "ApplicationFeeRefund", "CountrySpec", "Coupon", "EarlyFraudWarning", "Feature",
    "InvoiceItem", "IssuingAuthorization", "IssuingCard", "IssuingCardholder", "IssuingDispute",
    "IssuingTransaction", "Payout", "Price", "PromotionCode", "Review", "Session", "SetupIntent",
    "ShippingRate", "Subscription", "SubscriptionItem", "SubscriptionSchedule", "TaxCode", "TaxRate",
    "Transfer", "TransferReversal", "VerificationReport", "VerificationSession",
)  # fmt: skip


class Project:
    """A Django project with nothing but dj-stripe and a database in the folder `place`."""

    def __init__(self, place: Path, url: str, key: str) -> None:
        self.place = place
        self.database = place / "database.sqlite3"
        self.settings = {
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": str(PROJECT),
            "STRIPE_KEY": key,
            "STRIPE_BASE": url,
            "DATABASE": str(self.database),
        }

    def admin(self, *arguments: str) -> str:
        command = find_python(PROGRAM).with_name("django-admin")
        return run_to_success([command, *arguments], self.place, self.settings)

    def run_script(self, name: str, *arguments: str) -> str:
        return run_to_success([find_python(PROGRAM), PROJECT / name, *arguments], self.place, self.settings)

    def read_tables(self) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
        """The copied objects by model and id; and what became of each delivery to the webhook view."""
        printed = json.loads(self.run_script("print_rows.py"))
        return printed["rows"], printed["deliveries"]

    @contextmanager
    def serve(self) -> Iterator[str]:
        """The base of the project's addresses, while it serves one request at a time."""
        log = self.place / "server.log"
        with log.open("wb") as output:
            command = find_python(PROGRAM).with_name("django-admin")
            process = subprocess.Popen(
                [command, "runserver", "--noreload", "--nothreading", "--skip-checks", "127.0.0.1:0"],
                cwd=self.place,
                env=build_environment(self.place, self.settings | {"PYTHONUNBUFFERED": "1"}),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: process.poll() is not None or re.search(r"http://\S+", log.read_text()))
            yield re.findall(r"http://127[\d.]+:\d+", log.read_text())[0]
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with dj-stripe's tables, all empty: Django takes two seconds to make them."""
    project = Project(tmp_path_factory.mktemp("tables"), NOWHERE, "sk_test_of_nobody")
    project.admin("migrate", "--run-syncdb")
    return project.database


@pytest.fixture
def project(service: Service, account: Account, tables: Path, tmp_path: Path) -> Project:
    project = Project(tmp_path, service.url, account.secret)
    shutil.copy(tables, project.database)
    return project


def test_every_model_is_copied_whole(
    project: Project,
    account: Account,
    client: stripe.StripeClient,
    shop: Shop,
    list_refused: ListRefused,
) -> None:
    del shop
    project.admin("djstripe_sync_models", *MODELS, *PARTS, *EMPTY_MODELS)
    rows, _ = project.read_tables()
    for model, resource in MODELS.items():
        listed = list_all(client, resource)
        copied = rows[model].keys()
        # A charge of a customer who was deleted since brings a row of that customer, marked as deleted.
        kept = {named for named in copied if not rows[model][named].get("deleted")}
        assert kept == listed.keys(), model
    assert rows["Account"].keys() == {account.id}
    assert rows["LineItem"].keys() == {"il_tea"}
    assert not rows.keys() & set(EMPTY_MODELS)
    charges = list_all(client, "charges")
    for named, charge in rows["Charge"].items():
        shown = ("amount", "amount_refunded", "status", "disputed", "customer", "payment_method")
        assert {field: charge[field] for field in shown} == {field: charges[named][field] for field in shown}
    assert {charge["payment_method"] for charge in charges.values()} <= rows["PaymentMethod"].keys()
    assert list_refused() == []


def test_every_delivery_is_accepted_and_changes_the_rows(
    project: Project,
    client: stripe.StripeClient,
    shop: Shop,
    list_refused: ListRefused,
) -> None:
    project.admin("djstripe_sync_models", "Account", "Customer", "Charge", "Dispute")
    before = {event.id for event in client.v1.events.list({"limit": 100}).auto_paging_iter()}
    with project.serve() as base:
        project.run_script("create_endpoint.py", base)
        client.v1.customers.update(shop.jenny, {"name": "Jenny R.", "metadata": {"tier": "silver"}})
        client.v1.refunds.create({"charge": shop.refundable_charge, "amount": 100})
        client.v1.disputes.update(shop.open_dispute, {"evidence": {"service_date": "2026-11-05"}})
        new = client.v1.charges.create({"amount": 990, "currency": "usd", "source": "tok_createDispute"})
        brief = client.v1.customers.create({"email": "brief@example.com"}).id
        client.v1.customers.delete(brief)
        made = {event.id for event in client.v1.events.list({"limit": 100}).auto_paging_iter()} - before
        wait_until(
            lambda: not client.v1.events.list({"delivery_success": False}).data, seconds=DELIVERY_SECONDS
        )
    rows, deliveries = project.read_tables()
    # Each once: the service sends again what is not answered with 200.
    assert sorted(one["event"] for one in deliveries) == sorted(made)
    assert all(one["valid"] and one["processed"] and not one["exception"] for one in deliveries)
    assert rows["Customer"][shop.jenny]["name"] == "Jenny R."
    assert rows["Customer"][shop.jenny]["metadata"] == {"tier": "silver"}
    for model, resource, named in (
        ("Charge", "charges", shop.refundable_charge),
        ("Charge", "charges", new.id),
        ("Dispute", "disputes", shop.open_dispute),
    ):
        shown = json.loads(str(getattr(client.v1, resource).retrieve(named)))
        row = rows[model][named]
        for field in ("status", "amount", "amount_refunded", "disputed", "evidence", "evidence_details"):
            assert row.get(field) == shown.get(field), (named, field)
    # Told that a customer was deleted, dj-stripe deletes it once more, and does not mind the answer.
    assert list_refused() == [("DELETE", f"/v1/customers/{brief}", 404)]

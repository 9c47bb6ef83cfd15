"""Supabase's sync engine, which keeps a copy of an account's objects in Postgres: copied by its backfill, and
kept up to date by its processing of webhooks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import stripe
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from tests.api.service import Account, Service
from tests.clients.conftest import ListRefused
from tests.clients.program import (
    INSTALLED,
    SCRIPTS,
    SYNC_ENGINE,
    build_environment,
    find_node,
    needs,
    run_to_success,
)
from tests.clients.shop import Shop, list_all
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient
from tests.webhooks.receiver import wait_until

pytestmark = needs(SYNC_ENGINE)

SCRIPT = SCRIPTS / "sync_engine.cjs"
# Tables of the engine, by the client's name of the resource.
TABLES = {"customers": "customers", "charges": "charges", "disputes": "disputes", "refunds": "refunds"}
NOT_COPIED = {"updated_at", "last_synced_at", "deleted"}
"""Columns of the engine's own."""


class Engine:
    """The engine on a database of its own."""

    def __init__(self, dsn: str, place: Path, service: Service, account: Account) -> None:
        self.dsn = dsn
        self.place = place
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE",
                 "password": "PGPASSWORD", "passfile": "PGPASSFILE"}  # fmt: skip
        database = {names[name]: str(value) for name, value in conninfo_to_dict(dsn).items() if name in names}
        self.settings = database | {
            "INSTALLED": str(INSTALLED / SYNC_ENGINE / "package.json"),
            "STRIPE_KEY": account.secret,
            "STRIPE_BASE": service.url,
        }

    def backfill(self, *objects: str) -> dict[str, int]:
        """How many of each kind were copied."""
        output = run_to_success([find_node(), SCRIPT, "backfill", *objects], self.place, self.settings)
        counts: dict[str, int] = json.loads(output)
        return counts

    @contextmanager
    def serve(self, secret: str) -> Iterator[tuple[int, Path]]:
        """The port of its webhook address, and the file with a line for each delivery."""
        log = self.place / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [find_node(), SCRIPT, "serve"],
                cwd=self.place,
                env=build_environment(self.place, self.settings | {"STRIPE_WEBHOOK_SECRET": secret}),
                stdout=output,
                stderr=subprocess.DEVNULL,  # a warning of its Postgres client
            )
        try:
            wait_until(lambda: log.read_text())
            yield int(log.read_text().splitlines()[0]), log
        finally:
            process.terminate()
            process.wait()

    def read_rows(self, table: str) -> dict[str, dict[str, Any]]:
        """The rows of a table by id, without the engine's own columns and those that are null."""
        with psycopg.connect(self.dsn, row_factory=dict_row) as conn:
            found = conn.execute(f'SELECT * FROM stripe."{table}"'.encode()).fetchall()
        return {
            row["id"]: {
                name: value for name, value in row.items() if name not in NOT_COPIED and value is not None
            }
            for row in found
        }


@pytest.fixture
def engine(cluster: Cluster, service: Service, account: Account, tmp_path: Path) -> Iterator[Engine]:
    with cluster.create_database(template="template1") as dsn:
        yield Engine(dsn, tmp_path, service, account)


def _assert_equal(rows: dict[str, dict[str, Any]], shown: dict[str, Any]) -> None:
    """Every column that an object has too has the object's value."""
    assert rows.keys() == shown.keys()
    for named, row in rows.items():
        assert row == {name: shown[named][name] for name in row}, named


def test_the_backfill_copies_every_row(
    engine: Engine, client: stripe.StripeClient, shop: Shop, list_refused: ListRefused
) -> None:
    counts = engine.backfill("customer", "charge", "dispute", "refund")
    for table, resource in TABLES.items():
        shown = list_all(client, resource)
        assert counts[table] == len(shown)
        rows = engine.read_rows(table)
        if table == "customers":  # its charge is copied too, so the engine asks for the customer who is gone
            assert rows.pop(shop.deleted_customer) == {"id": shop.deleted_customer, "object": "customer"}
        _assert_equal(rows, shown)
    counts = engine.backfill("all")
    intents = list_all(client, "payment_intents")
    assert counts["paymentIntents"] == len(intents) > 0
    assert engine.read_rows("payment_intents").keys() == intents.keys()
    methods = client.v1.payment_methods.list({"customer": shop.jenny}).data
    assert engine.read_rows("payment_methods").keys() == {method.id for method in methods}
    assert {name: counts[name] for name in ("products", "invoices", "prices", "subscriptions", "taxIds")} == {
        "products": 1, "invoices": 1, "prices": 0, "subscriptions": 0, "taxIds": 0,
    }  # fmt: skip
    assert list_refused() == []


def test_deliveries_change_the_rows(
    engine: Engine,
    client: stripe.StripeClient,
    operator: InternalClient,
    shop: Shop,
    list_refused: ListRefused,
) -> None:
    engine.backfill("customer", "charge", "dispute", "refund")
    endpoint = client.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:9/", "enabled_events": ["*"], "api_version": "2020-08-27"}
    )
    assert endpoint.secret is not None
    with engine.serve(endpoint.secret) as (port, log):
        client.v1.webhook_endpoints.update(endpoint.id, {"url": f"http://127.0.0.1:{port}/"})
        for change in (
            lambda: client.v1.customers.update(shop.jenny, {"name": "Jenny R.", "phone": ""}),
            lambda: client.v1.refunds.create({"charge": shop.refundable_charge, "amount": 100}),
            lambda: client.v1.disputes.update(
                shop.open_dispute, {"evidence": {"service_date": "2026-11-05"}}
            ),
            lambda: client.v1.charges.create({"amount": 990, "currency": "usd", "source": "tok_visa"}),
        ):
            # The engine drops an event of the second that its row is of: it compares whole seconds.
            operator.post("/clock", {"advance_seconds": 2})
            change()
            wait_until(lambda: not client.v1.events.list({"delivery_success": False}).data)
        assert set(log.read_text().splitlines()[1:]) == {"200"}
    for table, resource in TABLES.items():
        rows = engine.read_rows(table)
        if table == "customers":
            rows.pop(shop.deleted_customer)
        _assert_equal(rows, list_all(client, resource))
    assert engine.read_rows("charges")[shop.refundable_charge]["amount_refunded"] == 100
    assert list_refused() == []

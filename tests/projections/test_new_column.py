"""The worked example examples/new-column: this release and the next serve one database, under load."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import stripe

from ledger.errors import SettingError
from ledger.postgres.connections import Conn, open_connection
from ledger.postgres.migrations import check_schema
from projections.rebuild import generations
from tests.api.service import Registrar, name_bases
from tests.conftest import Cluster
from tests.projections.rebuilds import OPERATOR
from tests.projections.releases import EXAMPLES, add_migration, create_release
from tests.serving.process import SERVICE_KEY, run_ledger, run_serve

EXAMPLE = EXAMPLES / "new-column"

INDEXED = """
SELECT tablename FROM pg_indexes WHERE tablename LIKE 'disputes%' AND indexdef LIKE '%, status,%' ORDER BY 1
"""


class Business(threading.Thread):
    """A client that opens disputes, answers every second one and checks the lists at once, until it ends."""

    def __init__(self, url: str, secret: str) -> None:
        super().__init__()
        self.client = create_client(url, secret)
        self.statuses: dict[str, str] = {}
        self.failure: BaseException | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            while not self._ended.wait(0.05):
                self.dispute()
        except BaseException as failure:
            self.failure = failure

    def dispute(self) -> None:
        charge = self.client.v1.charges.create(
            {"amount": 2000, "currency": "usd", "source": "tok_createDispute"}
        )
        (dispute,) = self.client.v1.disputes.list({"charge": charge.id}).data
        if len(self.statuses) % 2:
            evidence: Any = {"evidence": {"uncategorized_text": "winning_evidence"}}
            self.client.v1.disputes.update(dispute.id, evidence)
            (dispute,) = self.client.v1.disputes.list({"charge": charge.id}).data
            assert dispute.status == "won"
        self.statuses[dispute.id] = dispute.status

    def end(self) -> None:
        self._ended.set()
        self.join()
        if self.failure is not None:
            raise self.failure


@contextmanager
def run_business(url: str, secret: str) -> Iterator[Business]:
    business = Business(url, secret)
    business.start()
    try:
        yield business
    finally:
        business.end()


def list_statuses(client: stripe.StripeClient, **filters: Any) -> dict[str, str]:
    disputes = client.v1.disputes.list({"limit": 100, **filters})  # type: ignore[arg-type]
    return {dispute.id: dispute.status for dispute in disputes.auto_paging_iter()}


def fetch_rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(query.encode()).fetchall()


def test_a_filterable_column_is_added_while_the_previous_release_serves(
    cluster: Cluster, tmp_path: Path
) -> None:
    new = create_release(EXAMPLE / "release.patch", tmp_path / "new")
    expanded = add_migration(new, EXAMPLE / "0100_dispute_status.py")
    with cluster.create_database() as dsn, ExitStack() as stack:
        settings: dict[str, Any] = {
            "database_url": dsn, "secret_key": SERVICE_KEY, "verify_pause_seconds": 1, "list_wait_ms": 10_000,
        }  # fmt: skip
        run_new = partial(run_ledger, tmp_path / "data", release=new, **settings)
        secret = create_secret(dsn)
        old = stack.enter_context(run_serve(tmp_path / "old", **settings))
        business = stack.enter_context(run_business(old.url, secret))
        business.dispute()

        # Expand: nothing changes for the running release, and it can still start on the new schema.
        migrated = run_new("migrate")
        assert (migrated.returncode, migrated.stderr) == (0, "")
        check_schema(dsn)

        # The new release runs beside the old one.
        later = stack.enter_context(run_serve(tmp_path / "later", release=new, **settings))
        client = create_client(later.url, secret)
        assert set(business.statuses) <= set(list_statuses(client))  # it reads the live generation
        with pytest.raises(stripe.APIError, match="is temporarily unavailable"):
            list_statuses(client, status="won")  # rather than only the rows that have the column

        # Rebuild and switch. Only the new column is not compared, so no difference has to be accepted.
        rebuilt = run_new("projections", "rebuild", "disputes")
        assert rebuilt.returncode == 0, rebuilt.stderr
        compared = fetch_rows(dsn, "SELECT details FROM projections.operations WHERE action = 'compare'")
        assert [(details["equal"], details["added"]) for (details,) in compared] == [(True, ["status"])]
        assert fetch_rows(dsn, INDEXED) == [("disputes",), ("disputes_g2",)], (
            "no index was built on the live generation, so nothing waited for one"
        )
        business.dispute()
        assert set(list_statuses(client, status="won").values()) == {"won"}
        assert set(list_statuses(client, status="needs_response").values()) == {"needs_response"}

        # Roll back, and switch again: the old release reads the live generation, whichever it is.
        run_as_operator(dsn, partial(generations.roll_back, name="disputes", operator=OPERATOR))
        business.dispute()
        with pytest.raises(stripe.APIError):
            list_statuses(client, status="won")
        run_as_operator(dsn, partial(generations.switch, generations={"disputes": 2}, operator=OPERATOR))
        business.end()
        assert list_statuses(business.client) == business.statuses == list_statuses(client)
        won = {dispute: status for dispute, status in business.statuses.items() if status == "won"}
        assert list_statuses(client, status="won") == won, "no row was written without the column"
        assert "differ" not in old.log + later.log, "neither release compared the other's rows with its own"

        # Contract: stop the old release, then retire its generation; from now on it cannot start any more.
        old.stop()
        run_as_operator(dsn, partial(generations.retire, name="disputes", generations=[1], operator=OPERATOR))
        contracted = add_migration(new, EXAMPLE / "0101_dispute_status_only.py")
        assert run_new("migrate").returncode == 0
        assert_too_old_for(dsn, contracted, expanded)
        assert list_statuses(client, status="won") == won


def assert_too_old_for(dsn: str, schema: str, oldest_supported: str) -> None:
    """This release refuses to start on the schema, and the error says why."""
    with pytest.raises(
        SettingError, match=f"is at {schema} and supports releases from {oldest_supported} on"
    ):
        check_schema(dsn)


def run_as_operator(dsn: str, do: Callable[[Conn], Awaitable[object]]) -> None:
    """Run an operation as an operator of the old release."""

    async def session() -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await do(conn)

    asyncio.run(session())


def create_secret(dsn: str) -> str:
    registrar = Registrar(dsn)
    secret = registrar.account().secret
    registrar.close()
    return secret


def create_client(url: str, secret: str) -> stripe.StripeClient:
    return stripe.StripeClient(secret, base_addresses=name_bases(url), max_network_retries=0)

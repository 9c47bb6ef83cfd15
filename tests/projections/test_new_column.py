"""The worked example examples/new-column: this release and one with the example, on one database, in use."""

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
from tests.api.service import Registrar
from tests.conftest import Cluster
from tests.projections.rebuilds import OPERATOR
from tests.projections.releases import EXAMPLES, add_migration, create_release
from tests.serving.process import SERVICE_KEY, run_ledger, run_serve

EXAMPLE = EXAMPLES / "new-column"


class Business(threading.Thread):
    """Opens disputes and answers some, and sees each in the lists at once, until the end."""

    def __init__(self, url: str, secret: str) -> None:
        super().__init__()
        self.client = client_of(url, secret)
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
def in_business(url: str, secret: str) -> Iterator[Business]:
    business = Business(url, secret)
    business.start()
    try:
        yield business
    finally:
        business.end()


def listed(client: stripe.StripeClient, **filters: Any) -> dict[str, str]:
    disputes = client.v1.disputes.list({"limit": 100, **filters})  # type: ignore[arg-type]
    return {each.id: each.status for each in disputes.auto_paging_iter()}


def queried(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(query.encode()).fetchall()


def test_a_filterable_column_is_added_while_the_release_before_serves(
    cluster: Cluster, tmp_path: Path
) -> None:
    new = create_release(EXAMPLE / "release.patch", tmp_path / "new")
    expanded = add_migration(new, EXAMPLE / "0011_dispute_status.py")
    with cluster.create_database() as dsn, ExitStack() as stack:
        settings: dict[str, Any] = {
            "database_url": dsn, "secret_key": SERVICE_KEY, "verify_pause_seconds": 1, "list_wait_ms": 10_000,
        }  # fmt: skip
        of_new = partial(run_ledger, tmp_path / "data", release=new, **settings)
        secret = secret_of_an_account(dsn)
        old = stack.enter_context(run_serve(tmp_path / "old", **settings))
        business = stack.enter_context(in_business(old.url, secret))
        business.dispute()

        # Expand: nothing changes for what runs, and the release before starts on it, too.
        migrated = of_new("migrate")
        assert (migrated.returncode, migrated.stderr) == (0, "")
        check_schema(dsn)

        # The new release beside it.
        later = stack.enter_context(run_serve(tmp_path / "later", release=new, **settings))
        client = client_of(later.url, secret)
        assert set(business.statuses) <= set(listed(client)), "the new release reads what is live"
        with pytest.raises(stripe.APIError, match="is temporarily unavailable"):
            listed(client, status="won")  # rather than those that happen to have it

        # Rebuild and switch. All but the new column is compared, so there is nothing to accept.
        rebuilt = of_new("projections", "rebuild", "disputes")
        assert rebuilt.returncode == 0, rebuilt.stderr
        compared = queried(dsn, "SELECT details FROM projections.operations WHERE action = 'compare'")
        assert [(each["equal"], each["added"]) for (each,) in compared] == [(True, ["status"])]
        indexed = "SELECT tablename FROM pg_indexes WHERE indexdef LIKE '%, status,%' ORDER BY 1"
        assert queried(dsn, indexed) == [("disputes",), ("disputes_g2",)], "what was live waited for no index"
        business.dispute()
        assert set(listed(client, status="won").values()) == {"won"}
        assert set(listed(client, status="needs_response").values()) == {"needs_response"}

        # Back, and forth again: the release before reads what is live, whichever it is.
        operating(dsn, partial(generations.roll_back, name="disputes", operator=OPERATOR))
        business.dispute()
        with pytest.raises(stripe.APIError):
            listed(client, status="won")
        operating(dsn, partial(generations.switch, generations={"disputes": 2}, operator=OPERATOR))
        business.end()
        assert listed(business.client) == business.statuses == listed(client)
        won = {each: status for each, status in business.statuses.items() if status == "won"}
        assert listed(client, status="won") == won, "no row was written without it"
        assert "differ" not in old.log + later.log, "neither took the other's rows for its own"

        # Contract: the release before goes, then what it built; from then on it does not start any more.
        old.stop()
        operating(dsn, partial(generations.retire, name="disputes", generations=[1], operator=OPERATOR))
        contracted = add_migration(new, EXAMPLE / "0012_dispute_status_only.py")
        assert of_new("migrate").returncode == 0
        with pytest.raises(
            SettingError, match=f"is at {contracted} and supports releases from {expanded} on"
        ):
            check_schema(dsn)
        assert listed(client, status="won") == won


def operating(dsn: str, do: Callable[[Conn], Awaitable[object]]) -> None:
    """As an operator of the release before does it."""

    async def session() -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await do(conn)

    asyncio.run(session())


def secret_of_an_account(dsn: str) -> str:
    registrar = Registrar(dsn)
    secret = registrar.account().secret
    registrar.close()
    return secret


def client_of(url: str, secret: str) -> stripe.StripeClient:
    return stripe.StripeClient(secret, base_addresses={"api": url}, max_network_retries=0)

"""Behind a pooler: one that keeps a session for each connection works unmodified; one that does not is
refused at the start, in one line, as is one whose pool is too small."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from ledger.background import BackgroundLoop
from ledger.errors import SettingError, Unavailable
from ledger.postgres.connections import Pool, ReconnectingConnection, connect, fetch_one
from ledger.postgres.deployment import check_server
from ledger.postgres.statements import StatementPool, parse_statement
from ledger.time_limits import RequestLimit
from tests.postgres.poolers import needs_pgbouncer, open_pgbouncer
from tests.postgres.servers import ask_pool
from tests.serving.process import SERVICE_KEY, run_ledger, run_refused, run_serve
from tests.store.stores import wait_until

pytestmark = needs_pgbouncer
WHO = "SELECT current_user::text, current_setting('statement_timeout')"


def test_the_service_works_behind_a_pooler_of_sessions_as_it_is_installed(dsn: str, place: Path) -> None:
    with open_pgbouncer(dsn, place / "as_installed", pool_mode="session") as url:
        settings: dict[str, Any] = {"database_url": url, "secret_key": SERVICE_KEY, "workers": 0}
        data_dir = place / "served"
        created = run_ledger(data_dir, "accounts", "create", "Behind a pooler", **settings)
        account = created.stdout.split()[-1]
        secret = run_ledger(data_dir, "keys", "create", account, **settings).stdout.split()[-1]
        with (
            run_serve(data_dir, **settings) as service,
            httpx.Client(base_url=service.url, auth=(secret, ""), timeout=30) as client,
        ):
            made = client.post("/v1/customers", data={"name": "Ada"}).raise_for_status().json()
            assert client.get(f"/v1/customers/{made['id']}").raise_for_status().json() == made
            assert client.get("/v1/customers").raise_for_status().json()["data"] == [made]
            assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("ignored", ["", "options,extra_float_digits"])
def test_a_session_behind_a_pooler_has_its_role_and_its_settings(dsn: str, place: Path, ignored: str) -> None:
    async def look(url: str) -> None:
        settings = {"statement_timeout": "7s"}
        async with await connect(url, "ledger_api", name="test", settings=settings) as conn:
            assert await fetch_one(conn, WHO) == ("ledger_api", "7s")
        # The next one gets the same session of the server, and what it was left with.
        async with await connect(url, "ledger_projector", name="test") as conn:
            assert await fetch_one(conn, WHO) == ("ledger_projector", "0")

    with open_pgbouncer(dsn, place / "roles", pool_mode="session", ignore_startup_parameters=ignored) as url:
        check_server(url)
        asyncio.run(look(url))


@pytest.mark.parametrize("command", [["serve"], ["accounts", "list"]])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_of_transactions_is_refused(dsn: str, place: Path, command: list[str], mode: str) -> None:
    with open_pgbouncer(dsn, place / "lent", pool_mode=mode) as url:
        refused = run_refused(place / "none", *command, database_url=url, secret_key=SERVICE_KEY)
    assert "LEDGER_DATABASE_URL: it leads to a pooler that lends a session for one transaction" in refused
    assert "pool_mode = session" in refused


def test_a_pool_that_is_too_small_says_so(dsn: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.postgres.sessions.CONNECT_TIMEOUT_SECONDS", 0.3)
    small = {"pool_mode": "session", "default_pool_size": 1}

    async def meet(url: str) -> None:
        kept = ReconnectingConnection(url, "ledger_api", name="test")
        assert await kept.run_idempotent(lambda conn: fetch_one(conn, "SELECT 1")) == (1,)
        async with Pool(url) as pool:
            with pytest.raises(Unavailable, match="pooler in front of it has no free connection"):
                await ask_pool(pool, seconds=1)
        # Also where the request's limit is what ends the wait, and in background work.
        statements = StatementPool(url, "ledger_api", name="test", settings={}, connections_max=1)
        with pytest.raises(Unavailable, match="pooler in front of it has no free connection"):
            async with RequestLimit(1):
                await statements.fetch(parse_statement("SELECT 1"), {})
        with capture_logs() as logged:
            loop = BackgroundLoop("test", partial(_ask, url))
            await loop.start()
            await wait_until(lambda: bool(logged))
            await loop.close()
        assert "pooler in front of it has no free connection" in logged[0]["reason"]
        await kept.drop()

    too_small = pytest.raises(SettingError, match="has too small a pool")
    with open_pgbouncer(dsn, place / "small", **small) as url, too_small:
        check_server(url)
    with open_pgbouncer(dsn, place / "small", **small) as url:
        asyncio.run(meet(url))


async def _ask(url: str) -> float:
    async with await connect(url, "ledger_api", name="test") as conn:
        await fetch_one(conn, "SELECT 1")
    return 1


def test_a_pooler_without_room_for_more_clients_says_so(dsn: str, place: Path) -> None:
    async def meet(url: str) -> None:
        kept = ReconnectingConnection(url, "ledger_api", name="test")
        assert await kept.run_idempotent(lambda conn: fetch_one(conn, "SELECT 1")) == (1,)
        async with Pool(url) as pool:
            with pytest.raises(Unavailable, match="no more connections allowed"):
                await ask_pool(pool, seconds=1)
        await kept.drop()

    with open_pgbouncer(dsn, place / "full", pool_mode="session", max_client_conn=1) as url:
        asyncio.run(meet(url))
        with pytest.raises(SettingError, match="no more connections allowed"):
            check_server(url)


@pytest.mark.parametrize("arguments", [["psql"], ["psql", "--role", "ledger_analyst"]])
@pytest.mark.parametrize(("ignored", "does"), [("options", "ignores"), ("", "refuses")])
def test_psql_does_not_run_with_more_rights_behind_a_pooler_that_drops_what_it_asks_for(
    dsn: str, place: Path, arguments: list[str], ignored: str, does: str
) -> None:
    settings = {"pool_mode": "session", "ignore_startup_parameters": ignored}
    with open_pgbouncer(dsn, place / "deaf", **settings) as url:
        refused = run_refused(place / "none", *arguments, database_url=url, secret_key=SERVICE_KEY)
    assert f"a pooler that {does} what a session is to begin with" in refused
    assert "the server's own address" in refused

"""The service starts and serves what it can, whatever the log holds; what it cannot read it names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from ledger.accounts import INTERNAL_SCOPES
from ledger.wire.versions import LATEST_VERSION
from projections.read_models.catalog import PROJECTIONS
from tests.api.service import Caller, Registrar, assert_refused, ok
from tests.conftest import Cluster
from tests.forks import start_ledger
from tests.internal.conftest import InternalClient
from tests.projections.corruption import UNREADABLE, store_record
from tests.projections.histories import ACCOUNT, KEY, Author, run_story
from tests.serving.process import build_environment, run_ledger, run_serve
from tests.webhooks.receiver import wait_until

WAIT_SECONDS = 60.0


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    with cluster.create_database() as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO ledger.accounts (id, name, api_version) VALUES (%s, 'A test', %s)",
            (ACCOUNT, LATEST_VERSION),
        )
        yield dsn


class Keys:
    """Keys of the account that the histories of these tests belong to."""

    def __init__(self, dsn: str) -> None:
        registrar = Registrar(dsn)
        self.secret = registrar.key(ACCOUNT)[1]
        self.stranger = registrar.account().secret
        self.internal = registrar.key(ACCOUNT, "rk", scopes=INTERNAL_SCOPES)[1]
        registrar.close()


class History:
    """Two customers, of which one has a second record that cannot be read, and charges of both."""

    def __init__(self, dsn: str, kind: str) -> None:
        self._dsn = dsn

        async def story(author: Author) -> None:
            self.bad = await author.create_customer(email="one@example.com")  # 1
            self.good = await author.create_customer(email="two@example.com")  # 2
            await author.update_customer(self.bad, name="Ada")  # 3
            self.charges = [
                await author.create_charge(customer=self.bad),
                await author.create_charge(customer=self.good),
            ]
            self.stored = await store_record(dsn, 3, UNREADABLE[kind][0])

        run_story(dsn, story)

    def mend(self) -> None:
        async def story(author: Author) -> None:
            await store_record(self._dsn, 3, self.stored)

        run_story(self._dsn, story)


def count_lagging(dsn: str) -> int:
    """Projections that have not applied the whole log; -1 while some are not registered."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute(
            "SELECT count(*) FILTER (WHERE position < 5), count(*) FROM projections.checkpoints"
        ).fetchone()
    assert row is not None
    return int(row[0]) if row[1] >= len(PROJECTIONS) else -1


def count_parked(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT count(*) FROM projections.parked").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("kind", ["topic of a later release", "no JSON", "another key"])
def test_a_worker_starts_and_advances_all_projections(dsn: str, tmp_path: Path, kind: str) -> None:
    History(dsn, kind)
    environment = build_environment(tmp_path / "data", database_url=dsn, secret_key=KEY.decode())
    worker = start_ledger(
        ["worker"],
        environment=environment,
        directory=tmp_path,
        output=tmp_path / "output",
        errors=tmp_path / "log",
    )
    try:
        wait_until(lambda: count_lagging(dsn) == 0, seconds=WAIT_SECONDS)
        assert count_parked(dsn) == 4  # in customers, payment_methods, feed and audit_index
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(WAIT_SECONDS) == 0
    finally:
        worker.kill()
        worker.wait()
    assert "parked stream" in (tmp_path / "log").read_text()


def check_stranger(stranger: Caller, bad: str) -> None:
    """To another account, an object that cannot be read is missing, wherever its id is."""
    for path, param in (
        (f"/v1/customers/{bad}", "id"),
        (f"/v1/payment_intents/{bad}", "intent"),
        (f"/v1/payment_methods/{bad}", "payment_method"),
        (f"/v1/invoices/{bad}", "id"),
    ):
        assert_refused(stranger.get(path), 404, code="resource_missing", param=param)
    for query, param in (
        (f"charges?customer={bad}", "customer"),
        (f"charges?payment_intent={bad}", "payment_intent"),
        (f"balance_transactions?payout={bad}", "payout"),
    ):
        assert_refused(stranger.get(f"/v1/{query}"), code="resource_missing", param=param)
    refund = stranger.post("/v1/refunds", {"payment_intent": bad})
    assert_refused(refund, code="resource_missing", param="payment_intent")


def test_the_service_serves_what_it_can_and_names_what_it_cannot_read(dsn: str, tmp_path: Path) -> None:
    history = History(dsn, "topic of a later release")
    keys = Keys(dsn)
    settings: dict[str, Any] = {"database_url": dsn, "secret_key": KEY.decode(), "verify_pause_seconds": 0}
    with (
        run_serve(tmp_path / "data", **settings) as service,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        caller, operator = Caller(http, keys.secret), InternalClient(http, keys.internal)
        check_reads(caller, history)
        check_published(operator, caller, history)
        check_stranger(Caller(http, keys.stranger), history.bad)
        check_commands(caller, history)
        check_import(operator, history)
        check_status(operator, http, history)
        parked, refused = read_log_lines(service.log, history)
        assert "customer.merged" in parked
        assert "unknown_topic" in parked
        assert (refused["version"], refused["topic"], refused["reason"]) == (
            2, "customer.merged", "unknown_topic",
        )  # fmt: skip
        assert "example.com" not in service.log
        status = run_ledger(tmp_path, "projections", "status", **settings)
        assert (
            f"stream {history.bad} is parked from position 3 (topic customer.merged; unknown_topic: "
            "version 2, topic customer.merged)"
        ) in status.stdout
        verified = run_ledger(tmp_path, "projections", "verify", **settings)
        assert verified.returncode == 0, verified
        assert f"customers: stream {history.bad} is parked from position 3" in verified.stdout
    history.mend()
    # The next release, or the same one after the mend: nobody has to think of a command.
    with (
        run_serve(tmp_path / "data", **settings) as service,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        wait_until(lambda: count_parked(dsn) == 0, seconds=WAIT_SECONDS)
        listed = Caller(http, keys.secret).get("/v1/customers")
        assert "ledger-incomplete" not in listed.headers
        assert [each["name"] for each in ok(listed)["data"]] == [None, "Ada"]


def check_reads(caller: Caller, history: History) -> None:
    """Only what asks for the object itself is refused."""
    unreadable = {"message": "This object cannot be read at the moment", "kind": "api_error"}
    assert_refused(caller.get(f"/v1/customers/{history.bad}"), 500, **unreadable)
    assert ok(caller.get(f"/v1/customers/{history.good}"))["email"] == "two@example.com"
    listed = caller.get("/v1/customers")
    assert listed.headers["ledger-incomplete"] == "true"
    assert {each["id"] for each in ok(listed)["data"]} == {history.bad, history.good}
    charges = caller.get("/v1/charges?expand[]=data.customer")
    assert "ledger-incomplete" not in charges.headers
    ours, theirs = ok(charges)["data"]
    assert (ours["customer"]["email"], theirs["customer"]) == ("two@example.com", history.bad)
    one = ok(caller.get(f"/v1/charges/{history.charges[0]}?expand[]=customer"))
    assert one["customer"] == history.bad


def check_published(operator: InternalClient, caller: Caller, history: History) -> None:
    """A published object, and a list inside it, keep the id of what cannot be read."""
    lines = [
        {"id": f"il_{each}", "object": "line_item", "customer": each} for each in (history.bad, history.good)
    ]
    body = {"id": "in_1", "object": "invoice", "customer": history.bad, "lines": {"data": lines}}
    ok(operator.call("PUT", "/resources/invoice/in_1", {"event_type": "invoice.created", "object": body}))
    assert ok(caller.get("/v1/invoices/in_1?expand[]=customer"))["customer"] == history.bad
    theirs, ours = ok(caller.get("/v1/invoices/in_1/lines?expand[]=data.customer"))["data"]
    assert (theirs["customer"], ours["customer"]["email"]) == (history.bad, "two@example.com")


def check_commands(caller: Caller, history: History) -> None:
    """Nothing of a refused command is stored, not even the refusal."""
    key = "an idempotency key"
    form = {"description": "new"}
    for _ in range(2):
        answer = caller.post(f"/v1/customers/{history.bad}", form, idempotency_key=key)
        assert_refused(answer, 500, message="cannot be read", kind="api_error")
        assert "idempotent-replayed" not in answer.headers
    assert ok(caller.post(f"/v1/customers/{history.good}", form, idempotency_key=key))["description"] == "new"
    updated = caller.post(f"/v1/charges/{history.charges[0]}", {"description": "a", "expand[]": "customer"})
    assert ok(updated)["customer"] == history.bad


def check_import(operator: InternalClient, history: History) -> None:
    """A line that needs the object is refused alone."""
    lines = [
        {"op": "charge", "id": f"ch_of_{customer}", "customer": customer, "amount": 100, "currency": "usd"}
        for customer in (history.good, history.bad, history.good)
    ]
    lines[2]["id"] = "ch_last"
    answer = operator.http.post(
        "/internal/v1/import",
        content="\n".join(map(json.dumps, lines)),
        headers={"authorization": f"Bearer {operator.key}"},
    )
    first, second, third = map(json.loads, answer.text.splitlines())
    assert (first["changed"], second["error"]["type"], third["changed"]) == (True, "api_error", True)


def check_status(operator: InternalClient, http: httpx.Client, history: History) -> None:
    (generation,) = ok(operator.get("/projections/customers"))["generations"]
    assert generation["parked"] == [
        {
            "stream": history.bad,
            "position": 3,
            "error": "unknown_topic: version 2, topic customer.merged",
            "topic": "customer.merged",
            "reason": "unknown_topic",
        }
    ]
    metrics = http.get("/metrics").text
    assert 'ledger_parked_streams{generation="1",projection="customers"} 1.0' in metrics
    (line,) = [
        line
        for line in metrics.splitlines()
        if line.startswith("ledger_parked_position{") and 'projection="customers"' in line
    ]
    assert f'stream="{history.bad}",topic="customer.merged"}} 3.0' in line
    assert 'reason="unknown_topic"' in line
    assert http.get("/readyz").status_code == 200


def read_log_lines(log: str, history: History) -> tuple[str, dict[str, Any]]:
    """What was logged when the stream was parked in the projection of customers, and for a request."""
    entries = [json.loads(line) for line in log.splitlines()]
    parked = next(
        entry["event"]
        for entry in entries
        if f"customers_g1: parked stream {history.bad} from position 3" in entry["event"]
    )
    refused = next(
        entry for entry in entries if entry["event"] == "record_unreadable" and entry["stream"] == history.bad
    )
    return parked, refused

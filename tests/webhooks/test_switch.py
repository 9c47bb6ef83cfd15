"""Webhooks are off while an operator has paused them, and in a copy of the database until it is made the one
that acts. There due dates, checkpoints and witnesses wait too.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict
from structlog.testing import capture_logs

from ledger.accounts import INTERNAL_SCOPES
from ledger.config import load_settings
from ledger.postgres.binaries import find_wheel_bin_dir
from ledger.postgres.connections import open_connection
from ledger.postgres.deployment import ConfiguredKeys
from ledger.service_key import check_service_key
from ledger.webhooks.switch import OffReason, Switch, pause, read_switch
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service, assert_refused, ok
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient
from tests.projections.histories import KEY, Author, catch_up, run_story
from tests.serving.process import run_ledger, run_refused
from tests.tree.test_witnessed_service import make_log_key
from tests.webhooks.receiver import Receiver, ScriptedResponse, wait_until
from tests.webhooks.test_fanout import create_endpoint, run_webhooks
from tests.witness.server import WitnessProcess, run_witness

PATH = "/hooks/switch"
NINE_DAYS = 9 * 86_400
WITNESS_ASKED: LiteralString = "SELECT changed_at FROM ledger.witnesses"
QUIET_SECONDS = 1.0
"""Twenty polls of what must not happen."""
SETTINGS = {
    "LEDGER_WEBHOOK_RETRY_SECONDS_TEST": "1,1,1,1,1,1,1,1,1,1,1,1",
    "LEDGER_WEBHOOK_POLL_MS": "50",
    "LEDGER_DEADLINE_POLL_MS": "50",
    "LEDGER_SEAL_MS": "50",
    "LEDGER_CHECKPOINT_SECONDS": "1",
}


class Installation:
    """A running service on one database, as its users and its operator see it."""

    def __init__(self, service: Service, http: httpx.Client, account: Account, operator_key: str) -> None:
        self.service = service
        self.raw = Caller(http, account.secret)
        self.operator = InternalClient(http, operator_key)

    def ask(self, query: LiteralString) -> Any:
        """The one value that the query finds."""
        return ask(self.service.dsn, query)

    def count_pending(self) -> int:
        return count_pending(self.service.dsn)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.service.run_command("webhooks", "status", "--json"))
        return status


def ask(dsn: str, query: LiteralString) -> Any:
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute(query).fetchone()
        assert row is not None
        return row[0]


@contextmanager
def run_installation(
    dsn: str, place: Path, account: Account, key: str, **settings: str
) -> Iterator[Installation]:
    place.mkdir()
    service = Service(dsn, place, **SETTINGS, **settings)
    try:
        with httpx.Client(base_url=service.url, timeout=30) as http:
            yield Installation(service, http, account, key)
    finally:
        service.stop()


def dump_and_restore(source: str, target: str, file: Path) -> None:
    programs = find_wheel_bin_dir()
    subprocess.run([programs / "pg_dump", "-Fc", "-f", file, source], check=True)
    # A server older than the programs does not know one of their settings, which fails nothing else.
    subprocess.run([programs / "pg_restore", "-d", target, file], check=False, capture_output=True)


def read_files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(directory.rglob("*")) if file.is_file()}


def check_pause_and_resume(original: Installation, receiver: Receiver) -> None:
    """An operator pauses the webhooks of a running service: nothing arrives, and all of it after `resume`."""
    original.raw.customer(name="before")
    receiver.wait_for(PATH, 1)
    printed = original.service.run_command("webhooks", "pause", "--reason", "receiver moves")
    assert "paused: by " in printed
    assert printed.count("receiver moves") == 1
    wait_until(lambda: '"event":"webhooks_off"' in original.service.log)
    original.raw.customer(name="meanwhile")
    wait_until(lambda: original.count_pending() == 1)
    time.sleep(QUIET_SECONDS)
    assert len(receiver.requests_to(PATH)) == 1
    assert original.count_pending() == 1
    assert httpx.get(f"{original.service.url}/readyz").json()["webhooks"] == {"off": ["paused"]}
    assert "Webhooks are on.\n" in original.service.run_command("webhooks", "resume")
    receiver.wait_for(PATH, 2)
    wait_until(lambda: '"event":"webhooks_on"' in original.service.log)
    assert original.service.log.count('"event":"webhooks_off"') == 1


def leave_work(original: Installation, receiver: Receiver) -> str:
    """An open dispute, and deliveries that fail for now. Returns the dispute's id."""
    receiver.scripts[PATH] = [ScriptedResponse(500)]
    dispute = original.raw.dispute()
    wait_until(lambda: original.count_pending() >= 2)
    wait_until(lambda: original.ask("SELECT max(size) FROM ledger.witnesses") is not None)
    return str(dispute["id"])


def check_copy(copy: Installation, receiver: Receiver, witness: WitnessProcess, dispute: str) -> None:
    """Nothing goes out, nothing happens by itself, and everybody is told why."""
    requests_before, files_before = len(receiver.requests), read_files(witness.directory)
    tree_before = copy.ask("SELECT size FROM ledger.tree_head")
    wait_until(lambda: '"event":"webhooks_off"' in copy.service.log)
    waits = '"waits":["webhooks","due dates","checkpoints","witnesses"]'
    assert f'{{"reasons":["copy"],{waits}' in copy.service.log
    pending_before = copy.count_pending()
    copy.raw.customer(name="of the copy")
    ok(copy.operator.post("/clock", {"advance_seconds": NINE_DAYS}))
    wait_until(lambda: copy.count_pending() > pending_before)
    time.sleep(QUIET_SECONDS)
    assert len(receiver.requests) == requests_before
    assert ok(copy.raw.get(f"/v1/disputes/{dispute}"))["status"] == "needs_response"
    assert copy.ask("SELECT size FROM ledger.tree_head") == tree_before
    assert read_files(witness.directory) == files_before

    ready = httpx.get(f"{copy.service.url}/readyz")
    assert ready.status_code == 200
    assert (ready.json()["webhooks"], ready.json()["sealing"]["is_copy"]) == ({"off": ["copy"]}, True)
    metrics = httpx.get(f"{copy.service.url}/metrics").text
    assert 'ledger_webhooks_off{reason="copy"} 1.0' in metrics
    assert 'ledger_webhooks_off{reason="paused"} 0.0' in metrics
    head = copy.ask("SELECT position FROM ledger.head")
    unproven = copy.operator.get(f"/audit/proof/inclusion?position={head}")
    assert_refused(
        unproven, 409, code="not_sealed_yet", param="position", message="is a copy, which signs no"
    )
    assert "\nThis database is a copy" in copy.service.run_command("audit", "checkpoint", "--status")
    status = copy.status()
    assert status["off"] == ["copy"]
    assert status["pending"] == copy.count_pending()


def check_resumed(copy: Installation, receiver: Receiver, witness: WitnessProcess, dispute: str) -> None:
    """Once an operator says so, the copy does all that waited."""
    files_before = read_files(witness.directory)
    place, settings = copy.service._data_dir, {"database_url": copy.service.dsn, "secret_key": SERVICE_KEY}
    refusal = run_refused(place, "webhooks", "resume", **settings)
    assert "pass --yes: there is no terminal to ask on" in refusal
    assert copy.status()["off"] == ["copy"]
    copy.service.run_command("webhooks", "resume", "--yes", "--reason", "the old one is gone")
    wait_until(lambda: copy.count_pending() == 0)
    told = {json.loads(request.body)["data"]["object"].get("name") for request in receiver.requests_to(PATH)}
    assert "of the copy" in told
    wait_until(lambda: ok(copy.raw.get(f"/v1/disputes/{dispute}"))["status"] == "lost")
    wait_until(lambda: read_files(witness.directory) != files_before)
    wait_until(lambda: copy.ask("SELECT t.size = h.position FROM ledger.tree_head t, ledger.head h"))
    assert copy.ask("SELECT state FROM ledger.witnesses") == "cosigns"
    wait_until(lambda: '"event":"webhooks_on"' in copy.service.log)
    assert httpx.get(f"{copy.service.url}/readyz").json()["webhooks"] == {"off": []}
    recorded = copy.ask("SELECT row_to_json(a) FROM ledger.activations a ORDER BY id DESC LIMIT 1")
    assert (recorded["action"], recorded["reason"]) == ("resume", "the old one is gone")
    assert "@" in recorded["who"]
    assert recorded["details"]["pending"] > 0


def test_a_restored_dump_does_nothing_by_itself_until_it_is_made_the_one_that_acts(
    cluster: Cluster, dsn: str, tmp_path: Path, receiver: Receiver
) -> None:
    log_key = asyncio.run(make_log_key(dsn))
    registrar = Registrar(dsn)
    account = registrar.account()
    key = registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1]
    registrar.close()
    with run_witness(tmp_path, [log_key]) as witness:
        witnesses = {"LEDGER_WITNESSES": f"{witness.keys[0]}={witness.url}"}
        with run_installation(dsn, tmp_path / "original", account, key, **witnesses) as original:
            endpoint = {"url": receiver.url(PATH), "enabled_events[]": "*"}
            ok(original.raw.post("/v1/webhook_endpoints", endpoint))
            check_pause_and_resume(original, receiver)
            dispute = leave_work(original, receiver)
        receiver.scripts[PATH] = [ScriptedResponse(200)]
        with cluster.create_database(template="template0") as restored:
            dump_and_restore(dsn, restored, tmp_path / "dump")
            asked_at = ask(restored, WITNESS_ASKED)
            with run_installation(restored, tmp_path / "copy", account, key, **witnesses) as copy:
                output = (tmp_path / "copy" / "output").read_text()
                assert "Webhooks are off (copy): see `ledger webhooks status`." in output
                check_copy(copy, receiver, witness, dispute)
                assert copy.ask(WITNESS_ASKED) == asked_at
                check_resumed(copy, receiver, witness, dispute)


def start_once(dsn: str) -> None:
    """What the first start of a process does."""
    check_service_key(
        load_settings(database_url=dsn, secret_key=SERVICE_KEY), dsn, ConfiguredKeys(SERVICE_KEY.encode())
    )


def load_switch(dsn: str) -> Switch:
    async def load() -> Switch:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            return await read_switch(conn)

    return asyncio.run(load())


def test_every_way_to_copy_a_database_but_of_its_files_makes_a_copy(
    cluster: Cluster, dsn: str, tmp_path: Path
) -> None:
    assert load_switch(dsn).is_active, "before its first start"
    start_once(dsn)
    start_once(dsn)
    assert load_switch(dsn).action == "first_start"
    name = str(conninfo_to_dict(dsn)["dbname"])
    with cluster.create_database(name, is_active=False) as clone:
        start_once(clone)
        assert not load_switch(clone).is_active
    assert load_switch(dsn).is_active
    dump = tmp_path / "dump"
    subprocess.run([find_wheel_bin_dir() / "pg_dump", "-Fc", "-f", dump, dsn], check=True)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP SCHEMA projections, webhooks, ledger CASCADE")
    pg_restore = find_wheel_bin_dir() / "pg_restore"
    subprocess.run([pg_restore, "-d", dsn, dump], check=False, capture_output=True)
    start_once(dsn)
    assert not load_switch(dsn).is_active, "restored into the database that it is a dump of"


def test_an_owner_without_the_right_to_read_the_clusters_identifier_has_a_mark_too(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    start_once(dsn)
    assert load_switch(dsn).is_active
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute("SELECT system_identifier, database_oid > 0 FROM ledger.activations").fetchone()
        conn.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
    assert row == (None, True)


def test_a_copy_that_cannot_be_recognised_is_declared_one(dsn: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"database_url": dsn, "secret_key": SERVICE_KEY}
    data_dir = tmp_path / "data"
    declared = run_ledger(data_dir, "webhooks", "pause", "--copy", "--reason", "drill", **settings)
    assert declared.returncode == 0, declared
    assert "copy, declared so by" in declared.stdout
    assert not load_switch(dsn).is_active
    again = run_ledger(data_dir, "webhooks", "pause", "--copy", **settings)
    assert "drill" in again.stdout, "the reason on record is kept"
    run_ledger(data_dir, "webhooks", "pause", **settings)
    assert load_switch(dsn).list_off_reasons("on") == [OffReason.COPY, OffReason.PAUSED]
    resumed = run_ledger(data_dir, "webhooks", "resume", "--yes", "--json", **settings)
    assert json.loads(resumed.stdout)["off"] == []
    assert load_switch(dsn).list_off_reasons("off") == [OffReason.SETTING]
    refusal = run_refused(data_dir, "webhooks", "resume", "--drop-pending", "--yes", **settings)
    assert "webhooks are on, so nothing waits" in refusal


def count_pending(dsn: str) -> int:
    return int(ask(dsn, "SELECT count(*) FROM webhooks.deliveries WHERE state = 'pending'"))


def test_with_the_setting_off_a_process_sends_nothing(dsn: str, receiver: Receiver) -> None:
    path = "/hooks/setting"

    async def story(author: Author) -> None:
        await create_endpoint(author, receiver.url(path))
        await author.create_customer()
        await catch_up(dsn)
        with capture_logs() as logs:
            async with run_webhooks(author, webhooks="off"):
                await asyncio.to_thread(wait_until, lambda: count_pending(dsn) == 1)
                await asyncio.sleep(QUIET_SECONDS / 4)
        off = [entry["reasons"] for entry in logs if entry["event"] == "webhooks_off"]
        assert off == [["setting"]]
        assert receiver.requests_to(path) == []
        async with run_webhooks(author):
            await asyncio.to_thread(receiver.wait_for, path, 1)

    run_story(dsn, story)


def test_what_is_dropped_is_never_sent(dsn: str, tmp_path: Path, receiver: Receiver) -> None:
    path = "/hooks/dropped"
    settings: dict[str, Any] = {"database_url": dsn, "secret_key": KEY.decode()}
    arguments = ("webhooks", "resume", "--drop-pending", "--yes")

    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            await pause(conn, "ada@host", "")
        await create_endpoint(author, receiver.url(path))
        customer = await author.create_customer()
        await catch_up(dsn)
        async with run_webhooks(author):
            dropped = await asyncio.to_thread(run_ledger, tmp_path / "data", *arguments, **settings)
            assert (dropped.returncode, dropped.stderr) == (0, "1 delivery given up.\n"), dropped
            await author.update_customer(customer, name="after")
            await catch_up(dsn)
            await asyncio.to_thread(receiver.wait_for, path, 1)
            await asyncio.to_thread(wait_until, lambda: count_pending(dsn) == 0)
        (received,) = receiver.requests_to(path)
        assert json.loads(received.body)["type"] == "customer.updated"

    check_service_key(load_settings(**settings), dsn, ConfiguredKeys(KEY))
    run_story(dsn, story)

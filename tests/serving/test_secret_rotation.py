"""`ledger secrets rotate` as operators run it: beside a service under load, killed, on an own database."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest

from ledger.keys.service_keys import PURPOSES, ServiceKeys
from ledger.webhooks.secrets import WebhookSecrets
from tests.conftest import Cluster
from tests.keys.deployment import (
    NEW,
    NEW_ID,
    OLD,
    OLD_ID,
    count_wraps,
    insert_data_keys,
    list_states,
    load_data_keys,
    start,
)
from tests.serving.process import PROGRAM, ServeProcess, build_environment, run_ledger, run_refused, run_serve
from tests.serving.test_shutdown import create_secret

CONTENTS = b"\x89PNG\r\n\x1a\n"
ROTATE = ("secrets", "rotate")
QUICK: dict[str, Any] = {"append_timeout_ms": 1000}
BOTH: dict[str, Any] = {"secret_key": NEW.decode(), "previous_secret_key": OLD.decode()}

# A rotation stands still in the middle of a page, uncommitted.
_HALT = """
CREATE FUNCTION public.halt() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(77, 77); RETURN NEW; END $$;
CREATE TRIGGER halt BEFORE UPDATE ON ledger.data_keys FOR EACH ROW WHEN (NEW.subject = 'cus_0700')
    EXECUTE FUNCTION public.halt();
"""
_IS_HALTED = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 77 AND NOT granted)
"""


def run(place: Path, dsn: str, *arguments: str, **settings: Any) -> str:
    """The output of a command that succeeds."""
    done = run_ledger(place / "data", *arguments, database_url=dsn, **QUICK, **settings)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


class HaltedRotation(NamedTuple):
    """A rotation's process, and the session that it waits for."""

    process: subprocess.Popen[bytes]
    conn: psycopg.Connection


@contextmanager
def halted_rotation(dsn: str, environment: dict[str, str]) -> Iterator[HaltedRotation]:
    """A rotation that stands in the middle of its second page."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(_HALT)
        conn.execute("SELECT pg_advisory_lock(77, 77)")
        process = subprocess.Popen([*PROGRAM, *ROTATE], env=environment, stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + 60
            while conn.execute(_IS_HALTED).fetchone() != (True,):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield HaltedRotation(process, conn)
        finally:
            process.kill()
            process.wait()
            conn.execute("DROP FUNCTION public.halt CASCADE")


class Load:
    """Requests of four clients, one after another each, while a block runs."""

    def __init__(self, service: ServeProcess, secret: str) -> None:
        self.statuses: list[int] = []
        self._http = httpx.Client(base_url=service.url, auth=(secret, ""), timeout=20)
        self._ended = threading.Event()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(self._post) for _ in range(4)]
            try:
                yield
            finally:
                self._ended.set()
        for each in running:
            each.result()

    def _post(self) -> None:
        while not self._ended.is_set():
            customer = self._http.post("/v1/customers", data={"name": "Ada", "email": "ada@example.com"})
            self.statuses.append(customer.status_code)
            read = self._http.get(f"/v1/customers/{customer.json()['id']}")
            assert read.json()["name"] == "Ada"


def make_secrets(http: httpx.Client) -> dict[str, Any]:
    """Something of each kind whose secret comes from the service key."""
    customer = http.post("/v1/customers", data={"name": "Grace"}).json()
    intent = http.post("/v1/payment_intents", data={"amount": 100, "currency": "eur"}).json()
    endpoint = http.post(
        "/v1/webhook_endpoints", data={"url": "http://127.0.0.1:9/x", "enabled_events[]": "*"}
    ).json()
    purpose = {"purpose": "dispute_evidence"}
    file = http.post("/v1/files", data=purpose, files={"file": ("a.png", CONTENTS, "image/png")}).json()
    assert "id" in file, file
    link = http.post("/v1/file_links", data={"file": file["id"]}).json()
    session = create_session(http, customer["id"])
    return {"intent": intent, "endpoint": endpoint, "link": link, "session": session}


def create_session(http: httpx.Client, customer: str) -> dict[str, Any]:
    """A customer session; the same one each time."""
    form = {"customer": customer, "components[buy_button][enabled]": "true"}
    answer = http.post("/v1/customer_sessions", data=form, headers={"idempotency-key": "session"})
    return dict(answer.json())


def check_secrets(http: httpx.Client, made: dict[str, Any], keys: ServiceKeys) -> None:
    """They are the same as when they were made."""
    intent, endpoint, link = made["intent"], made["endpoint"], made["link"]
    assert http.get(f"/v1/payment_intents/{intent['id']}").json()["client_secret"] == intent["client_secret"]
    assert http.get(f"/v1/file_links/{link['id']}").json()["url"].endswith(link["url"].rpartition("/")[2])
    assert http.get(httpx.URL(link["url"]).path).content == CONTENTS
    session = made["session"]
    assert create_session(http, session["customer"])["client_secret"] == session["client_secret"]
    assert WebhookSecrets(keys).derive(endpoint["id"]) == endpoint["secret"]


def test_nothing_is_lost_while_the_key_is_replaced_under_load(dsn: str, place: Path) -> None:
    with run_serve(place / "before", database_url=dsn, secret_key=OLD.decode(), **QUICK) as service:
        secret = asyncio.run(create_secret(dsn))
        with httpx.Client(base_url=service.url, auth=(secret, ""), timeout=20) as http:
            made = make_secrets(http)
    with run_serve(place / "both", database_url=dsn, workers=2, **BOTH, **QUICK) as service:
        load = Load(service, secret)
        with load.under_way():
            time.sleep(0.5)
            plan = json.loads(run(place, dsn, *ROTATE, "--dry-run", "--json", **BOTH))
            assert (plan["current"], plan["retired"], plan["obstacle"]) == (NEW_ID, [OLD_ID], None)
            assert list_states(dsn) == {OLD_ID: "current", NEW_ID: "accepted"}
            done = json.loads(run(place, dsn, *ROTATE, "--json", **BOTH))
            assert done["retired"] == [OLD_ID]
            time.sleep(0.5)
        assert set(load.statuses) == {200}
        with httpx.Client(base_url=service.url, auth=(secret, ""), timeout=20) as http:
            check_secrets(http, made, start(dsn, NEW))
        log = service.log + service.output
    assert {key_id for _, key_id in count_wraps(dsn)} == {NEW_ID}
    with run_serve(place / "after", database_url=dsn, secret_key=NEW.decode()) as service:
        with httpx.Client(base_url=service.url, auth=(secret, ""), timeout=20) as http:
            check_secrets(http, made, start(dsn, NEW))
            listed = http.get("/v1/customers", params={"limit": 100}).json()["data"]
            assert {each["name"] for each in listed} <= {"Ada", "Grace"}
        log += service.log + service.output
    assert not any(key.decode() in log for key in (OLD, NEW))


def test_a_rotation_that_was_killed_goes_on(dsn: str, place: Path) -> None:
    subjects = [f"cus_{number:04}" for number in range(1200)]
    keys = start(dsn, OLD)
    insert_data_keys(dsn, keys, *subjects)
    opened = load_data_keys(dsn, keys, *subjects)
    environment = build_environment(place / "data", database_url=dsn, **BOTH)
    with halted_rotation(dsn, environment) as rotation:
        assert "another rotation is under way" in run_refused(
            place / "data", *ROTATE, database_url=dsn, **BOTH
        )
        rotation.process.kill()
    assert count_wraps(dsn) == {
        ("data_keys", OLD_ID): 700, ("data_keys", NEW_ID): 500, ("service_secrets", NEW_ID): len(PURPOSES),
    }  # fmt: skip
    assert load_data_keys(dsn, start(dsn, NEW, OLD), *subjects) == opened
    for key in (OLD, NEW):
        line = run_refused(place / "data", "keys", "list", database_url=dsn, secret_key=key.decode())
        assert "is one of two keys" in line
    assert "700 data keys" in run(place, dsn, *ROTATE, **BOTH)
    assert load_data_keys(dsn, start(dsn, NEW), *subjects) == opened
    assert run(place, dsn, *ROTATE, secret_key=NEW.decode()).endswith("No other key was in use.\n")


def test_a_rotation_that_is_stopped_keeps_nobody_from_erasing(dsn: str, place: Path) -> None:
    """As by Ctrl-Z. An erasure waits for the key that it has locked, and each append for the erasure."""
    insert_data_keys(dsn, start(dsn, OLD), *(f"cus_{number:04}" for number in range(1200)))
    with halted_rotation(dsn, build_environment(place / "data", database_url=dsn, **BOTH)) as rotation:
        rotation.process.send_signal(signal.SIGSTOP)
        rotation.conn.execute("SELECT pg_advisory_unlock(77, 77)")
        rotation.conn.execute("SET lock_timeout = '8s'")
        rotation.conn.execute("SELECT FROM ledger.data_keys WHERE subject = 'cus_0700' FOR UPDATE")


def test_a_backup_from_the_middle_of_a_rotation_needs_both_keys(
    dsn: str, cluster: Cluster, place: Path
) -> None:
    start(dsn, OLD)
    start(dsn, NEW, OLD)
    run(place, dsn, "backup", str(place / "middle.dump"), **BOTH)
    restore = ("restore", str(place / "middle.dump"))
    with cluster.create_database(template="template0") as empty:
        for key in (OLD, NEW):
            line = run_refused(place / "data", *restore, database_url=empty, secret_key=key.decode())
            assert "is one of two keys" in line
        run(place, empty, *restore, **BOTH)
        assert list_states(empty) == list_states(dsn)


def test_status_shows_ids_and_counts_and_no_key(dsn: str, place: Path) -> None:
    keys = start(dsn, OLD)
    insert_data_keys(dsn, keys, "cus_1")
    start(dsn, NEW, OLD)
    text = run(place, dsn, "secrets", "status", "--json", secret_key="x" * 40)
    found = {each["id"]: each for each in json.loads(text)["data"]}
    old = found[OLD_ID]
    assert (old["state"], old["data_keys"], old["secrets"]) == ("current", 1, len(PURPOSES))
    assert (found[NEW_ID]["state"], found[NEW_ID]["is_set_here"]) == ("accepted", False)
    table = run(place, dsn, "secrets", "status", **BOTH)
    settings = run(place, dsn, "config", **BOTH)
    for shown in (text, table, settings):
        assert "service key of these tests" not in shown
    assert settings.count(f"set, {len(OLD)} characters") == 2


@pytest.fixture
def stopped(place: Path) -> Path:
    """The data directory of an embedded service that has stopped."""
    data_dir = place / "embedded"
    with run_serve(data_dir):
        pass
    return data_dir


def test_the_key_of_an_embedded_database_is_replaced_by_one_command(stopped: Path, place: Path) -> None:
    key_file, previous_file = stopped / "secret.key", stopped / "secret.key.previous"
    old_key = key_file.read_text()
    new_file = place / "new.key"
    new_file.write_text("short\n")
    assert "is not a file with a service key" in run_refused(
        stopped, *ROTATE, "--new-key-file", str(new_file)
    )
    new_file.write_text(f"{NEW.decode()}\n")
    with run_serve(stopped, **QUICK):
        line = run_refused(stopped, *ROTATE, "--new-key-file", str(new_file))
        assert "without the key with the id" in line
        assert line.endswith(": stop the service of this embedded database, then run this again")
        assert "both keys" not in line
        plan = run_ledger(stopped, *ROTATE, "--new-key-file", str(new_file), "--dry-run", "--json")
        assert json.loads(plan.stdout)["obstacle"] in line
    assert (key_file.read_text(), previous_file.exists()) == (old_key, False)

    done = run_ledger(stopped, *ROTATE, "--new-key-file", str(new_file))
    assert (done.returncode, done.stderr) == (0, "")
    assert str(previous_file) in done.stdout
    assert (key_file.read_text(), previous_file.read_text()) == (NEW.decode(), old_key)
    assert {file.stat().st_mode & 0o777 for file in (key_file, previous_file)} == {0o600}
    previous_file.unlink()
    with run_serve(stopped):
        listed = run_ledger(stopped, "secrets", "status", "--json")
        states = {each["id"]: each["state"] for each in json.loads(listed.stdout)["data"]}
        assert states == {ServiceKeys(old_key.encode()).current_id: "retired", NEW_ID: "current"}
    key_file.write_text(old_key)
    assert "was replaced by the key with the id" in run_refused(stopped, "serve")

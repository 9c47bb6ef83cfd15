"""`ledger serve` without settings: it makes a database, an account and keys, and keeps them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.process import ServeProcess, run_ledger, run_refused, run_serve

Keys = dict[str, str]


@pytest.fixture(scope="module")
def service(place: Path) -> Iterator[ServeProcess]:
    """A service started in an empty directory, for tests that leave it running."""
    with run_serve(place / "fresh", log_requests="all") as service:
        yield service


def load_keys(data_dir: Path) -> Keys:
    keys: Keys = json.loads((data_dir / "dev-keys.json").read_text())
    return keys


def create_customer(keys: Keys, name: str) -> httpx.Response:
    return httpx.post(f"{keys['url']}/v1/customers", auth=(keys["secret"], ""), data={"name": name})


def test_a_fresh_start_prints_where_it_listens_and_its_keys(service: ServeProcess) -> None:
    keys = load_keys(service.data_dir)
    stripe_cli = f"STRIPE_API_KEY={keys['secret']} stripe listen --all-snapshot --api-base {keys['url']} "
    for text in (*keys.values(), f"curl {keys['url']}/v1/", "import stripe", "/docs", stripe_cli):
        assert text in service.output


def test_the_keys_are_in_a_file_that_only_the_owner_reads(service: ServeProcess) -> None:
    file = service.data_dir / "dev-keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(load_keys(service.data_dir)) == {"url", "account", "secret", "publishable", "operator"}
    assert load_keys(service.data_dir)["url"] == service.url
    assert stat.S_IMODE((service.data_dir / "secret.key").stat().st_mode) == 0o600


def test_each_key_may_do_what_its_kind_allows(service: ServeProcess) -> None:
    keys = load_keys(service.data_dir)
    created = create_customer(keys, "Ada")
    assert created.status_code == 200
    assert httpx.get(f"{service.url}/v1/customers/{created.json()['id']}").status_code == 401
    assert create_customer({**keys, "secret": keys["publishable"]}, "Ada").status_code >= 400
    assert keys["secret"].startswith("sk_test_")
    assert keys["publishable"].startswith("pk_test_")
    assert keys["operator"].startswith("rk_test_")


def test_it_becomes_ready(service: ServeProcess) -> None:
    ready = f"{service.url}/readyz"
    service.wait_until(lambda: httpx.get(ready).status_code == 200)
    assert httpx.get(ready).json()["status"] == "ok"


def test_each_line_of_the_log_is_json_without_secrets(service: ServeProcess) -> None:
    keys = load_keys(service.data_dir)
    created = create_customer(keys, "Ada Lovelace")
    create_customer({**keys, "secret": "sk_test_wrongwrongwrongwrong"}, "Ada")
    service.wait_until(lambda: created.headers["request-id"] in service.log)
    lines = [json.loads(line) for line in service.log.splitlines()]
    [line] = [line for line in lines if line.get("request_id") == created.headers["request-id"]]
    assert (line["event"], line["method"], line["path"], line["status"]) == (
        "request",
        "POST",
        "/v1/customers",
        200,
    )
    assert line["account"] == keys["account"]
    assert {"time", "level", "ms", "position"} <= set(line)
    for secret in (keys["secret"], keys["publishable"], keys["operator"], "Lovelace", "wrongwrong"):
        assert secret not in service.log


def test_a_second_service_on_the_same_data_is_refused(service: ServeProcess) -> None:
    assert f"in use by process {service.process.pid}" in run_refused(service.data_dir, "serve")
    assert create_customer(load_keys(service.data_dir), "Ada").status_code == 200


def test_the_file_of_a_killed_service_is_ignored_when_another_process_has_its_id(
    place: Path,
) -> None:
    """In a container the next service has the same process id as the killed one."""
    data_dir = place / "recycled"
    data_dir.mkdir()
    (data_dir / "database.json").write_text(json.dumps({"pid": os.getpid(), "dsn": "host=/nowhere"}))
    with run_serve(data_dir) as service:
        service.wait_until(lambda: httpx.get(f"{service.url}/readyz").status_code == 200)
        assert "/nowhere" not in (data_dir / "database.json").read_text()
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    shutil.rmtree(data_dir)


def test_accounts_and_keys_are_created_and_revoked_while_it_serves(service: ServeProcess) -> None:
    data_dir = service.data_dir
    account = run_ledger(data_dir, "accounts", "create", "Another").stdout.strip()
    assert account.startswith("acct_")
    listed = run_ledger(data_dir, "accounts", "list").stdout
    assert [line.split("\t")[:3] for line in listed.splitlines()[2:]] == [[account, "Another", ""]]

    made = run_ledger(data_dir, "keys", "create", account, "--name", "ci").stdout
    key_id, secret = (line.split()[1] for line in made.splitlines())
    keys = {**load_keys(data_dir), "secret": secret}
    assert create_customer(keys, "Ada").status_code == 200
    listed = run_ledger(data_dir, "keys", "list", "--account", account).stdout
    assert secret not in listed
    [title, key] = [line.split("\t") for line in listed.splitlines()]
    assert title == ["id", "account", "key", "name", "scopes", "state", "last used"]
    assert key[:6] == [key_id, account, f"sk_test_***{secret[-4:]}", "ci", "", "active"]

    assert run_ledger(data_dir, "keys", "revoke", key_id, "--yes").returncode == 0
    service.wait_until(lambda: create_customer(keys, "Ada").status_code == 401, seconds=2)


def test_wrong_arguments_of_the_commands_are_explained(service: ServeProcess) -> None:
    data_dir = service.data_dir
    assert "No such key: 'key_none'" in run_refused(data_dir, "keys", "revoke", "key_none")
    unknown_account = run_refused(data_dir, "keys", "list", "--account", "acct_none")
    assert "No such account: 'acct_none'" in unknown_account
    scoped = ["keys", "create", "acct_none", "--kind", "rk", "--scope", "everything"]
    assert "--scope everything: must be one of" in run_refused(data_dir, *scoped)


def test_data_and_keys_survive_restarts_commands_and_kills(place: Path) -> None:
    data_dir = place / "kept"
    with run_serve(data_dir) as service:
        first = load_keys(data_dir)
        customer = create_customer(first, "Ada").json()["id"]
        service.stop()
        assert service.log == ""

    # While the service is stopped, the commands start the database themselves; but one that runs until it is
    # stopped would then be in the way of the service.
    assert run_refused(data_dir, "listen").startswith(f"ledger: no service runs on {data_dir}: start one ")
    account = run_ledger(data_dir, "accounts", "create", "Made while stopped").stdout.strip()
    assert "sk_live_" in run_ledger(data_dir, "keys", "create", account, "--live").stdout

    with run_serve(data_dir) as service:
        second = load_keys(data_dir)
        assert {**second, "url": ""} == {**first, "url": ""}
        assert second["url"] == service.url
        found = httpx.get(f"{service.url}/v1/customers/{customer}", auth=(first["secret"], ""))
        assert found.json()["name"] == "Ada"
        acknowledged = kill_under_load(service, second)

    with run_serve(data_dir) as service:
        third = load_keys(data_dir)
        assert {**third, "url": ""} == {**first, "url": ""}
        with httpx.Client(base_url=service.url, auth=(third["secret"], ""), timeout=30) as http:
            for customer in acknowledged:
                assert http.get(f"/v1/customers/{customer}").status_code == 200
            assert http.post("/v1/customers").status_code == 200
    shutil.rmtree(data_dir)


@pytest.mark.parametrize("workers", [1, 2])
def test_data_survives_a_kill_of_the_service_and_its_database_at_once(place: Path, workers: int) -> None:
    data_dir = place / f"killed-{workers}"
    with run_serve(data_dir, workers=workers) as service:
        keys = load_keys(data_dir)
        customer = create_customer(keys, "Ada").json()["id"]
        postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        service.kill()
    with run_serve(data_dir, workers=workers) as service:
        found = httpx.get(f"{service.url}/v1/customers/{customer}", auth=(keys["secret"], ""))
        assert found.json()["name"] == "Ada"
        assert run_ledger(data_dir, "migrate").stdout == "The schema is up to date.\n"
    shutil.rmtree(data_dir)


def kill_under_load(service: ServeProcess, keys: Keys) -> list[str]:
    """Kill the service while it is written to, and return the customers that it acknowledged."""
    acknowledged: list[str] = []

    def write() -> None:
        with httpx.Client(base_url=service.url, auth=(keys["secret"], ""), timeout=30) as http:
            try:
                while True:
                    acknowledged.append(http.post("/v1/customers", data={"name": "Ada"}).json()["id"])
            except httpx.TransportError:
                return

    writers = [threading.Thread(target=write) for _ in range(6)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 60
    while len(acknowledged) < 150 and time.monotonic() < deadline:
        time.sleep(0.01)
    service.kill()
    for writer in writers:
        writer.join()
    assert len(acknowledged) >= 150
    return acknowledged

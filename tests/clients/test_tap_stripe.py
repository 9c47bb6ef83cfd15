"""tap-stripe, which copies an account's objects to a Singer target: every object once, and with the state of
a run only what came later.

This module has its own service, whose clock starts in the past: the tap reads the last ten minutes again.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
import stripe

from tests.api.conftest import check_log
from tests.api.service import Account, Registrar, Service
from tests.clients.conftest import ListRefused
from tests.clients.program import SCRIPTS, find_python, needs, run_to_success
from tests.clients.shop import Shop, list_all
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient
from tests.webhooks.receiver import wait_until

PROGRAM = "tap-stripe"
pytestmark = needs(PROGRAM)

HOUR = 3600
# Resources by the name of the tap's stream. What the tap reads besides is empty here.
STREAMS = {
    "charges": "charges", "customers": "customers", "disputes": "disputes", "events": "events",
    "balance_transactions": "balance_transactions", "payment_intents": "payment_intents",
    "products": "products", "invoices": "invoices",
}  # fmt: skip
Records = dict[str, list[str]]


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(dsn, Path(place))
        yield running
        running.stop()
        check_log(running.log)


@pytest.fixture(scope="module")
def registrar(service: Service) -> Iterator[Registrar]:
    registrar = Registrar(service.dsn)
    yield registrar
    registrar.close()


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield http


@pytest.fixture
def operator(http: httpx.Client, account: Account, registrar: Registrar) -> InternalClient:
    """An operator who has set the clock two hours back."""
    operator = InternalClient(http, registrar.key(account.id, "rk", scopes=["clock", "publish"])[1])
    _set_clock(operator, time.time() - 2 * HOUR)
    return operator


def _set_clock(operator: InternalClient, now: float) -> None:
    answer = operator.post("/clock", {"now": now})
    assert answer.status_code == 200, answer.text


class Tap:
    """The tap's configuration in the folder `place`, and its runs one after the other."""

    def __init__(self, place: Path, service: Service, account: Account) -> None:
        self.place = place
        self.service = service
        config = {
            "start_date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 24 * HOUR)),
            "account_id": account.id,
            "client_secret": account.secret,
        }
        (place / "config.json").write_text(json.dumps(config))
        catalog = json.loads(self._run("--discover"))
        for stream in catalog["streams"]:
            whole = next(one for one in stream["metadata"] if one["breadcrumb"] == [])
            whole["metadata"]["selected"] = True
        (place / "catalog.json").write_text(json.dumps(catalog))

    def sync(self) -> tuple[Records, Records]:
        """Ids by stream of new objects, and of objects read from their events; in the order of the records.
        The state that the run ends with is given to the next."""
        state = self.place / "state.json"
        with_state = ["--state", str(state)] if state.exists() else []
        messages = [
            json.loads(line) for line in self._run("--catalog", "catalog.json", *with_state).splitlines()
        ]
        state.write_text(json.dumps([one["value"] for one in messages if one["type"] == "STATE"][-1]))
        new: dict[str, list[str]] = defaultdict(list)
        updated: dict[str, list[str]] = defaultdict(list)
        for message in messages:
            if message["type"] == "RECORD":
                records = updated if message["record"].get("updated_by_event_type") else new
                records[message["stream"]].append(message["record"]["id"])
        return new, updated

    def _run(self, *arguments: str) -> str:
        program = find_python(PROGRAM).with_name(PROGRAM)
        settings = {"PYTHONPATH": str(SCRIPTS / "tap_stripe"), "http_proxy": self.service.url}
        return run_to_success([program, "--config", "config.json", *arguments], self.place, settings)


def _list_ids(client: stripe.StripeClient) -> dict[str, list[str]]:
    """Ids by stream as the API lists them; streams without objects left out."""
    listed = {stream: sorted(list_all(client, resource)) for stream, resource in STREAMS.items()}
    return {stream: ids for stream, ids in listed.items() if ids}


def _sorted(records: Records) -> dict[str, list[str]]:
    return {stream: sorted(ids) for stream, ids in records.items()}


def test_a_run_reads_every_object_once_and_the_next_only_what_came_later(
    service: Service,
    account: Account,
    client: stripe.StripeClient,
    operator: InternalClient,
    shop: Shop,
    list_refused: ListRefused,
    tmp_path: Path,
) -> None:
    tap = Tap(tmp_path, service, account)
    new, updated = tap.sync()
    before = _list_ids(client)
    assert set(new.pop("invoice_line_items")) == {"il_tea"}  # of the invoice, and of its event
    assert _sorted(new) == before
    assert set(updated["customers"]) == {shop.deleted_customer, *before["customers"]}
    assert set(updated["disputes"]) == set(before["disputes"])

    _set_clock(operator, time.time())  # the state names the time of the run, by the tap's clock
    added = client.v1.customers.create({"email": "later@example.com", "source": "tok_visa"})
    client.v1.charges.create({"amount": 900, "currency": "usd", "customer": added.id})
    client.v1.charges.create({"amount": 900, "currency": "usd", "source": "tok_createDispute"})
    client.v1.disputes.update(shop.open_dispute, {"evidence": {"service_date": "2026-11-05"}})
    written = time.time()
    wait_until(lambda: time.time() >= written + 1)  # the tap leaves out the second in which it starts
    new, updated = tap.sync()
    after = _list_ids(client)
    came_later = {stream: sorted(set(after[stream]) - set(before[stream])) for stream in after}
    new.pop("invoice_line_items")  # again, of the event that the state names
    assert _sorted(new) == {stream: ids for stream, ids in came_later.items() if ids}
    assert {stream: len(ids) for stream, ids in new.items()} == {
        "customers": 1, "charges": 2, "disputes": 1, "balance_transactions": 3, "events": 6,
    }  # fmt: skip
    assert {shop.open_dispute, *came_later["disputes"]} <= set(updated["disputes"])
    assert list_refused() == []

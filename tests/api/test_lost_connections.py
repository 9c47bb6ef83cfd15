"""A database that ends all connections and is back at once, or restarts: no later request fails.

The service has its own server here, because the test ends that server's connections and restarts it.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
import stripe

from ledger.accounts import INTERNAL_SCOPES
from ledger.files.storage import CHUNK_BYTES
from ledger.postgres.connections import POOL_SIZE_MAX
from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate
from ledger.queries.pages import PAGE_CONNECTIONS_MAX
from tests.api.service import Caller, Registrar, Service, create_client, ok
from tests.internal.conftest import InternalClient

CONTENT = b"%PDF-1.4\n" + b"x" * (2 * CHUNK_BYTES)
REQUESTS_IN_A_ROW = 200
ROUNDS = 3
READY_SECONDS = 30.0

_END_CONNECTIONS = """
SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'ledger %' AND pg_terminate_backend(pid)
"""
_COUNT_ENDING = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)"
_COUNT_KEPT = """
SELECT count(*) FILTER (WHERE application_name = 'ledger reads'),
       count(*) FILTER (WHERE application_name = 'ledger pages')
FROM pg_stat_activity
"""

Request = Callable[[], object]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A running, migrated server of this module's own."""
    place = Path(tempfile.mkdtemp(prefix="lost-connections-"))
    place.chmod(0o755)
    server = EmbeddedPostgres(place / "data", settings={"fsync": "off", "shared_buffers": "16MB"})
    server.start()
    migrate(server.dsn())
    yield server
    server.destroy()
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def service(server: EmbeddedPostgres) -> Iterator[Service]:
    """A service on that server."""
    with tempfile.TemporaryDirectory() as data_dir:
        service = Service(server.dsn(), Path(data_dir))
        yield service
        service.stop()


class Requests:
    """Requests of every kind, each of which succeeds however often it is sent. SDK retries are off."""

    def __init__(self, service: Service, http: httpx.Client) -> None:
        registrar = Registrar(service.dsn)
        account = registrar.account()
        self.raw = Caller(http, account.secret)
        self.page = Caller(http, account.publishable)
        self.operator = InternalClient(http, registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1])
        registrar.close()
        self.client = create_client(service, account.secret, max_network_retries=0)
        self.customer = self.client.v1.customers.create({"name": "Ada"}).id
        self.charge = self.client.v1.charges.create({"amount": 2000, "currency": "usd", "source": "tok_visa"})
        self.file = self.upload()
        self.link = self.client.v1.file_links.create({"file": self.file.id})
        self.endpoint = self.client.v1.webhook_endpoints.create(
            {"url": "http://127.0.0.1:9/hook", "enabled_events": ["charge.dispute.closed"]}
        ).id
        ok(self.raw.post("/v1/customers", {"name": "Ada"}, idempotency_key="replayed"))
        self.event = self.raw.events()[0]["id"]

    def upload(self) -> stripe.File:
        return self.client.v1.files.create({"purpose": "pci_document", "file": io.BytesIO(CONTENT)})

    def reads(self) -> list[Request]:
        v1, customer, charge = self.client.v1, self.customer, self.charge
        transaction = charge.balance_transaction
        assert isinstance(transaction, str)
        return [
            lambda: v1.customers.retrieve(customer),
            lambda: v1.customers.list({"limit": 3}),
            lambda: v1.charges.list({"limit": 3}),
            lambda: v1.disputes.list(),
            lambda: v1.refunds.list(),
            lambda: v1.events.list({"limit": 3, "type": "customer.*"}),
            lambda: v1.events.retrieve(self.event),
            lambda: v1.balance_transactions.list({"limit": 3}),
            lambda: v1.balance_transactions.retrieve(transaction),
            lambda: v1.files.list({"limit": 3}),
            lambda: v1.webhook_endpoints.list(),
            lambda: v1.webhook_endpoints.retrieve(self.endpoint),
            self.download,
            self.download_by_link,
            lambda: ok(self.operator.get("/keys")),
            lambda: ok(self.operator.get("/accounts")),
            lambda: ok(self.operator.get("/projections")),
            lambda: ok(self.operator.get(f"/customer_sessions?customer={customer}")),
            lambda: ok(self.raw.http.get("/readyz")),
            self.measure,
        ]

    def writes(self) -> list[Request]:
        v1, operator = self.client.v1, self.operator
        number = uuid.uuid4().hex
        resource = {"event_type": "invoice.created", "object": {"number": number}}
        return [
            lambda: v1.customers.create({"name": number}, {"idempotency_key": number}),
            lambda: v1.customers.update(self.customer, {"description": number}),
            self.replay,
            self.upload,
            self.claim,
            lambda: ok(operator.post("/keys", {"name": number})),
            lambda: ok(operator.post("/accounts", {"name": number}, idempotency_key=f"account-{number}")),
            lambda: ok(operator.call("PUT", f"/resources/invoice/in_{number}", resource)),
            lambda: self.import_file(number),
            lambda: ok(operator.post("/projections/customers/verify", {"sample": 1})),
        ]

    def download(self) -> None:
        assert self.raw.get(f"/v1/files/{self.file.id}/contents").content == CONTENT

    def download_by_link(self) -> None:
        assert self.link.url is not None
        assert httpx.get(self.link.url, timeout=30).content == CONTENT

    def measure(self) -> None:
        assert "ledger_lag_events" in self.raw.http.get("/metrics").text

    def replay(self) -> None:
        answer = self.raw.post("/v1/customers", {"name": "Ada"}, idempotency_key="replayed")
        assert ok(answer)["name"] == "Ada"
        assert answer.headers["idempotent-replayed"] == "true"

    def claim(self) -> None:
        form = {"customer": self.customer, "components[customer_sheet][enabled]": "true"}
        secret = ok(self.raw.post("/v1/customer_sessions", form))["client_secret"]
        query = f"customer_session_client_secret={secret}&type=deferred_intent"
        assert ok(self.page.get(f"/v1/elements/sessions?{query}"))["customer"]["customer_session"]

    def import_file(self, number: str) -> None:
        line = {"op": "file", "id": f"file_{number}", "purpose": "pci_document", "content": "JVBERi0="}
        headers = {"authorization": f"Bearer {self.operator.key}"}
        answer = self.raw.http.post("/internal/v1/import", content=json.dumps(line), headers=headers)
        assert json.loads(answer.text)["changed"], answer.text


@pytest.fixture(scope="module")
def requests(service: Service) -> Iterator[Requests]:
    """Requests to that service."""
    with httpx.Client(base_url=service.url, verify=False, timeout=30) as http:
        yield Requests(service, http)


def fill_pool(service: Service, requests: Requests) -> None:
    """Make the service hold as many idle connections as it may: more reads than that wait for a lock."""

    def read(number: int) -> None:
        ok(requests.operator.get("/accounts"))
        requests.client.v1.customers.list({"limit": 100, "created": {"gte": number}})  # all different

    count = 2 * (POOL_SIZE_MAX + PAGE_CONNECTIONS_MAX)
    with ThreadPoolExecutor(count) as threads, psycopg.connect(service.dsn, autocommit=True) as conn:
        read(0)  # the keys are known from now on
        for table, column in (("ledger.accounts", 0), ("projections.customers", 1)):
            with conn.transaction():
                conn.execute(f"LOCK TABLE {table}")
                reads = [threads.submit(read, number) for number in range(count)]
                while fetch_kept(conn)[column] < (POOL_SIZE_MAX, PAGE_CONNECTIONS_MAX)[column]:
                    time.sleep(0.005)
            for each in reads:
                each.result()
        assert fetch_kept(conn) == (POOL_SIZE_MAX, PAGE_CONNECTIONS_MAX)


def fetch_kept(conn: psycopg.Connection) -> tuple[int, int]:
    """The idle and busy connections of both pools. Not of the statement's own transaction's snapshot."""
    conn.execute("SELECT pg_stat_clear_snapshot()")
    row = conn.execute(_COUNT_KEPT).fetchone()
    assert row is not None
    return row[0], row[1]


def send_in_a_row(service: Service, requests: Requests, count: int) -> None:
    """Wait for the first success of /readyz, then send `count` requests; each must succeed."""
    deadline = time.monotonic() + READY_SECONDS
    while requests.raw.http.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline, service.log[-2000:]
        time.sleep(0.01)
    sent = 0
    while sent < count:
        for send in (*requests.reads(), *requests.writes()):
            send()
            sent += 1


def end_connections(dsn: str) -> None:
    """What a restart or a failover does to the connections of the service."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        pids = [pid for (pid,) in conn.execute(_END_CONNECTIONS).fetchall()]
        while conn.execute(_COUNT_ENDING, [pids]).fetchone() != (0,):
            time.sleep(0.005)


def test_no_request_fails_after_the_database_has_ended_all_connections(
    service: Service, requests: Requests
) -> None:
    for _ in range(ROUNDS):
        fill_pool(service, requests)
        end_connections(service.dsn)
        send_in_a_row(service, requests, REQUESTS_IN_A_ROW)


def test_no_request_is_the_first_to_find_its_connection_ended(service: Service, requests: Requests) -> None:
    """Each kind of request is the first one after the connections have ended."""
    for number in range(len(requests.reads()) + len(requests.writes())):
        end_connections(service.dsn)
        [*requests.reads(), *requests.writes()][number]()


def test_no_request_fails_after_a_restart_of_the_database(
    server: EmbeddedPostgres, service: Service, requests: Requests
) -> None:
    fill_pool(service, requests)
    server.stop()
    server.start()
    send_in_a_row(service, requests, REQUESTS_IN_A_ROW)


@pytest.mark.contract("1.6 server fault")
def test_a_download_does_not_begin_before_its_first_chunk_is_read(
    service: Service, requests: Requests
) -> None:
    url = requests.link.url
    assert url is not None
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute("REVOKE SELECT ON ledger.file_chunks FROM ledger_api")
        try:
            assert requests.raw.get(f"/v1/files/{requests.file.id}/contents").status_code == 500
            assert httpx.get(url).status_code == 500
        finally:
            conn.execute("GRANT SELECT ON ledger.file_chunks TO ledger_api")
    requests.download()
    requests.download_by_link()

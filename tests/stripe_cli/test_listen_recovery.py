"""`stripe listen` gets every Event: in a burst, over planned reconnects, from two API processes, and over the
death of the whole service."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import stripe

from ledger.wire.thin_events import to_thin_id
from tests.api.conftest import parse_log
from tests.api.service import Account, Registrar
from tests.conftest import Cluster
from tests.serving.conftest import place  # noqa: F401  # fixture
from tests.serving.process import SERVICE_KEY, ServeProcess
from tests.stripe_cli.cli import Listener, RefusingProxy, StripeCli, needs_stripe_cli
from tests.webhooks.receiver import ReceivedRequest, Receiver, run_receiver, wait_until

# ruff: noqa: F811
pytestmark = needs_stripe_cli

BURST = 504
WRITERS = 8
CONNECTION_SECONDS = 2
RECONNECT_SECONDS = 25.0
ROUNDS_MAX = 3
ATTEMPTS = 3
COUNT_ATTEMPTS = """
SELECT count(DISTINCT d.event)
FROM webhooks.deliveries d JOIN webhooks.attempts a ON a.delivery = d.id
WHERE d.account = %s AND d.state = 'forwarded' AND a.status = 200
"""


def is_free(port: int) -> bool:
    """Whether a service can listen there: killed processes have it until they are gone."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class FragileService:
    """`ledger serve` with two API processes, which can be killed and started again at the same address."""

    def __init__(self, place: Path, dsn: str) -> None:
        self._place = place
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.dsn = dsn
        self._settings: dict[str, Any] = {
            "database_url": dsn, "secret_key": SERVICE_KEY, "port": port, "workers": 2,
            "stripe_cli_connection_seconds": CONNECTION_SECONDS, "log_requests": "all",
            "unix_socket": place / "api.sock",
        }  # fmt: skip
        self.process = ServeProcess(place / "data", **self._settings)
        self.url = self.process.url

    def kill_and_start(self) -> None:
        self.process.kill_group()
        wait_until(lambda: is_free(self._settings["port"]))
        self.process = ServeProcess(self._place / "data", **self._settings)

    def find_writers(self) -> set[int]:
        """The API processes that have created customers."""
        entries = parse_log(self.process.log)
        return {entry["pid"] for entry in entries if entry.get("method") == "POST"}

    def count_connections(self) -> int:
        """How often a listener has connected to the service since it was started."""
        entries = parse_log(self.process.log)
        return sum(entry["event"] == "listener_connected" for entry in entries)


@pytest.fixture(scope="module")
def fragile(cluster: Cluster, place: Path) -> Iterator[FragileService]:
    with cluster.create_database() as dsn:
        service = FragileService(place, dsn)
        yield service
        service.process.stop()
        service.process.kill_group()


@pytest.fixture
def account(fragile: FragileService) -> Iterator[Account]:
    registrar = Registrar(fragile.dsn)
    yield registrar.account()
    registrar.close()


@pytest.fixture
def http(fragile: FragileService, account: Account) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fragile.url, auth=(account.secret, ""), timeout=30) as http:
        yield http


@pytest.fixture
def cli(fragile: FragileService, account: Account, proxy: RefusingProxy, tmp_path: Path) -> StripeCli:
    return StripeCli(tmp_path, fragile.url, account.secret, proxy)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def create_customers(http: httpx.Client, count: int) -> None:
    """Made as fast as the service takes them, on connections that any API process may have got."""

    def create(share: int) -> None:
        with httpx.Client(base_url=http.base_url, auth=http.auth, verify=False, timeout=30) as own:
            for number in range(share):
                response = own.post("/v1/customers", data={"name": f"Jenny {number}"})
                assert response.status_code == 200, response.text

    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(create, [count // WRITERS] * WRITERS))


def create_until_killed(http: httpx.Client) -> int:
    """How many customers the service had acknowledged when it died."""
    count = 0
    with (
        httpx.Client(base_url=http.base_url, auth=http.auth, verify=False, timeout=30) as own,
        suppress(httpx.TransportError),
    ):
        while True:
            assert own.post("/v1/customers").status_code == 200
            count += 1
    return count


def list_events(http: httpx.Client) -> set[str]:
    """The ids of all Events, as the API lists them."""
    ids: list[str] = []
    while True:
        cursor = {"starting_after": ids[-1]} if ids else {}
        page = http.get("/v1/events", params={"limit": "100", **cursor}).json()
        ids += [event["id"] for event in page["data"]]
        if not page["has_more"]:
            return set(ids)


def read_event_id(request: ReceivedRequest, secret: str) -> str:
    """The id of a forwarded Event, in a snapshot or thin, the signature verified."""
    body = request.body.decode()
    stripe.WebhookSignature.verify_header(body, request.signature, secret)
    event_id: str = json.loads(body)["id"]
    return event_id


class CliHung(Exception):
    """The CLI connects no more, which it does every CONNECTION_SECONDS, and after a lost connection within 10
    seconds. Now and then it hangs when a connection ends: its own fault, and no Event's loss."""


def try_again_when_it_hangs(story: Callable[[], None]) -> None:
    """Run a story with the CLI; again if it hangs."""
    for _ in range(ATTEMPTS - 1):
        with suppress(CliHung):
            story()
            return
    story()


def wait_for_connection(fragile: FragileService, count: int) -> None:
    """Wait until it has connected `count` times since the service was started. Raises CliHung."""
    try:
        wait_until(lambda: fragile.count_connections() >= count, seconds=RECONNECT_SECONDS)
    except AssertionError:
        raise CliHung from None


def wait_for_all(
    fragile: FragileService,
    http: httpx.Client,
    receiver: Receiver,
    listener: Listener,
    earlier: Set[str],
    *,
    thin: bool = False,
) -> set[str]:
    """The ids of all Events but `earlier` ones, once the receiver got each, signed, in a snapshot or `thin`.
    Raises CliHung."""
    expected = list_events(http) - earlier
    expected = {to_thin_id(event_id) for event_id in expected} if thin else expected

    def has_all() -> bool:
        return len(receiver.requests) >= len(expected) and expected <= {
            read_event_id(request, listener.secret) for request in receiver.requests
        }

    for _ in range(ROUNDS_MAX):
        connections = fragile.count_connections()
        try:
            wait_until(has_all, seconds=RECONNECT_SECONDS)
            return expected
        except AssertionError:
            if fragile.count_connections() == connections:
                raise CliHung from None
    raise AssertionError(f"{len(receiver.requests)} of {len(expected)} Events came")


def test_a_unix_socket_needs_no_address(
    fragile: FragileService, cli: StripeCli, place: Path, http: httpx.Client, receiver: Receiver
) -> None:
    cli.url = ""
    cli.settings = {
        "STRIPE_CLI_UNIX_SOCKET": str(place / "api.sock"), "HTTPS_PROXY": "", "HTTP_PROXY": "",
    }  # fmt: skip
    with cli.listen("--forward-to", receiver.url("/")) as listener:
        customer = cli.call("customers", "create", "--name", "Jenny")
        assert cli.call("get", customer["id"]) == customer
        assert len(wait_for_all(fragile, http, receiver, listener, set())) == 1


def test_a_burst_reaches_a_listener_over_a_reconnect(
    fragile: FragileService, cli: StripeCli, account: Account, http: httpx.Client, receiver: Receiver
) -> None:
    def burst() -> None:
        earlier, connections = list_events(http), fragile.count_connections()
        receiver.requests.clear()

        def create_until_reconnected() -> bool:
            """For a second after its first connection the CLI has none."""
            create_customers(http, WRITERS)
            return fragile.count_connections() >= connections + 2

        with cli.listen("--forward-to", receiver.url("/")) as listener:
            create_customers(http, BURST)
            with suppress(AssertionError):
                wait_until(create_until_reconnected)
            wait_for_connection(fragile, connections + 2)
            expected = wait_for_all(fragile, http, receiver, listener, earlier)
        assert len(expected) >= BURST + WRITERS
        assert len(fragile.find_writers()) == 2

        def is_recorded() -> bool:
            with psycopg.connect(fragile.dsn) as conn:
                row = conn.execute(COUNT_ATTEMPTS, (account.id,)).fetchone()
            return row is not None and row[0] >= len(expected)

        wait_until(is_recorded)

    try_again_when_it_hangs(burst)


@pytest.mark.parametrize("choice", ["--all-snapshot", "--all-thin"])
def test_nothing_is_lost_when_the_service_is_killed(
    choice: str, fragile: FragileService, cli: StripeCli, http: httpx.Client, receiver: Receiver
) -> None:
    def kill() -> None:
        earlier = list_events(http)
        receiver.requests.clear()
        with cli.listen(choice, "--forward-to", receiver.url("/")) as listener:
            with ThreadPoolExecutor(WRITERS) as writers:
                counts = [writers.submit(create_until_killed, http) for _ in range(WRITERS)]
                wait_until(lambda: len(receiver.requests) >= 50)
                fragile.kill_and_start()
            create_customers(http, 40)
            wait_for_connection(fragile, 1)
            thin = choice == "--all-thin"
            expected = wait_for_all(fragile, http, receiver, listener, earlier, thin=thin)
            assert len(expected) >= sum(count.result() for count in counts) + 40
            assert listener.process.poll() is None

    try_again_when_it_hangs(kill)

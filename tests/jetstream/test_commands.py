"""`ledger feed publish`, `check` and `repair`, as an operator runs them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import nats
import psycopg
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from ledger.store.store import Store
from tests.forks import ForkedProcess, start_ledger
from tests.jetstream.nats_server import NatsServer, require_program, run_nats_server
from tests.jetstream.streams import append_events, check_stream, connect_to, read_stream, wait_for_stream
from tests.serving.process import STOP_SECONDS, build_environment, run_ledger, run_refused
from tests.store.stores import KEY, open_store

ROOT = Path(__file__).parents[2]
PASSWORD = "a-password-of-nats"


class Shell:
    """A shell with the settings of the deployment."""

    def __init__(self, place: Path, dsn: str, server: NatsServer, name: str) -> None:
        self._data_dir = place / "data"
        self._settings: dict[str, Any] = {
            "database_url": dsn, "secret_key": KEY.decode(), "nats_url": server.url,
        }  # fmt: skip
        self._server = server
        self._options = ("--stream", name, "--prefix", name)
        self._place = place
        self.log = place / "publisher.log"

    def run(self, command: str, *arguments: str, **settings: Any) -> tuple[int, str, str]:
        ended = run_ledger(
            self._data_dir, "feed", command, *self._options, *arguments, **self._settings | settings
        )
        return ended.returncode, ended.stdout, ended.stderr

    def run_refused(self, command: str, *arguments: str, **settings: Any) -> str:
        return run_refused(
            self._data_dir, "feed", command, *self._options, *arguments, **self._settings | settings
        )

    def run_ledger(self, *arguments: str) -> str:
        ended = run_ledger(self._data_dir, *arguments, **self._settings)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def run_ledger_refused(self, *arguments: str) -> str:
        return run_refused(self._data_dir, *arguments, **self._settings)

    def publish(self, *arguments: str, **settings: Any) -> AbstractContextManager[ForkedProcess]:
        return self.start("feed", "publish", *self._options, *arguments, **settings)

    @contextmanager
    def start(self, *arguments: str, **settings: Any) -> Iterator[ForkedProcess]:
        process = start_ledger(
            arguments,
            environment=build_environment(self._data_dir, **self._settings | settings),
            directory=self._place,
            output=self.log,
            errors=self.log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(STOP_SECONDS)


@pytest.fixture
def shell(tmp_path: Path, dsn: str, nats_server: NatsServer, name: str) -> Shell:
    (tmp_path / "publisher.log").touch()
    return Shell(tmp_path, dsn, nats_server, name)


@pytest.fixture
def with_store(dsn: str) -> Callable[[Callable[[Store], Coroutine[Any, Any, None]]], None]:
    def run(action: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
        async def run_action() -> None:
            async with open_store(dsn) as store:
                await action(store)

        asyncio.run(run_action())

    return run


WithStore = Callable[[Callable[[Store], Coroutine[Any, Any, None]]], None]


def fill(with_store: WithStore, count: int) -> None:
    with_store(lambda store: append_events(store, count))


def wait(server: NatsServer, name: str, position: int) -> None:
    asyncio.run(wait_for_stream(server, name, position))


def test_publishers_that_are_killed_leave_no_hole_and_no_double(
    shell: Shell, with_store: WithStore, nats_server: NatsServer, name: str
) -> None:
    fill(with_store, 6000)
    for position in (1, 1500, 3000):
        with shell.publish() as first, shell.publish() as second:
            wait(nats_server, name, position)
            first.kill()
            second.kill()
    with shell.publish():
        wait(nats_server, name, 6000)
    with_store(lambda store: check_stream(nats_server, store, name))


def test_sigterm_ends_the_publisher_with_status_0(
    shell: Shell, with_store: WithStore, nats_server: NatsServer, name: str
) -> None:
    fill(with_store, 3)
    with shell.publish() as process:
        wait(nats_server, name, 3)
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0, shell.log.read_text()


def test_a_publisher_outlives_a_nats_server_that_is_away(
    shell: Shell, with_store: WithStore, nats_server: NatsServer, name: str
) -> None:
    fill(with_store, 10)
    nats_server.stop()
    with shell.publish() as process:
        deadline = time.monotonic() + 60
        while "background_work_delayed" not in shell.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        nats_server.start()
        wait(nats_server, name, 10)
        assert process.poll() is None
    assert "no connection to nats://127.0.0.1:" in shell.log.read_text()


def test_what_an_operator_must_decide_ends_the_publisher_with_one_line(
    shell: Shell, with_store: WithStore, nats_server: NatsServer, name: str
) -> None:
    fill(with_store, 3)
    with shell.publish():
        wait(nats_server, name, 3)

    async def intrude() -> None:
        async with connect_to(nats_server) as client:
            await client.jetstream().publish(f"{name}.x", b"not ours")

    asyncio.run(intrude())
    fill(with_store, 1)
    line = shell.run_refused("publish")
    assert line.startswith(f"ledger: message 4 of stream {name} is not this ledger's event at that position")
    assert line.endswith("ledger feed repair")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"deny_delete": False}, "has the setting deny_delete off; it must be on"),
        ({"max_msgs_per_subject": 1}, "has the setting max_msgs_per_subject 1; it must be -1"),
        ({"subjects": ["other.>"]}, "has the subjects other.>; it must have {name}.> alone"),
        ({"retention": "interest"}, "has the setting retention interest; it must be limits"),
    ],
)
def test_a_stream_whose_sequences_may_not_be_positions_is_refused(
    shell: Shell, nats_server: NatsServer, name: str, change: dict[str, Any], line: str
) -> None:
    config = {"name": name, "subjects": [f"{name}.>"], "deny_delete": True, "deny_purge": True} | change

    async def create() -> None:
        async with connect_to(nats_server) as client:
            answer = await client.request(f"$JS.API.STREAM.CREATE.{name}", json.dumps(config).encode())
            assert "error" not in json.loads(answer.data)

    asyncio.run(create())
    assert f"stream {name} {line.format(name=name)}" in shell.run_refused("publish")
    asyncio.run(_delete(nats_server, name))


async def _delete(server: NatsServer, name: str) -> None:
    async with connect_to(server) as client:
        await client.jetstream().delete_stream(name)


def test_a_check_reads_the_whole_stream_and_names_the_first_difference(
    shell: Shell, with_store: WithStore, nats_server: NatsServer, name: str, dsn: str
) -> None:
    fill(with_store, 700)
    with shell.publish():
        wait(nats_server, name, 700)
    status, output, _ = shell.run("check", "--json")
    assert status == 0
    wanted = {"stream": name, "first": 1, "last": 700, "head": 700, "difference": None}
    assert json.loads(output) == wanted
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("UPDATE ledger.events SET account = 'acct_2' WHERE notification_id = 42")
    status, output, errors = shell.run("check")
    assert (status, output) == (1, "")
    assert errors.startswith(f"ledger: message 42 of stream {name} is not this ledger's event")


def test_repair_makes_the_stream_again_and_consumers_go_on_where_they_were(
    shell: Shell, with_store: WithStore, nats_server: NatsServer, name: str
) -> None:
    fill(with_store, 100)
    with shell.publish():
        wait(nats_server, name, 100)

    async def read(count: int) -> list[int]:
        async with connect_to(nats_server) as client:
            subscription = await client.jetstream().pull_subscribe(f"{name}.>", "billing", stream=name)
            messages = await subscription.fetch(count, timeout=5)
            for message in messages:
                await message.ack_sync()
            return [message.metadata.sequence.stream for message in messages]

    async def intrude() -> None:
        async with connect_to(nats_server) as client:
            js = client.jetstream()
            await js.publish(f"{name}.x", b"not ours")
            config = ConsumerConfig(
                durable_name="mirror", ack_policy=AckPolicy.NONE, deliver_subject="mirror"
            )
            await js.add_consumer(name, config)

    assert asyncio.run(read(60)) == list(range(1, 61))
    asyncio.run(intrude())
    fill(with_store, 20)
    refused = shell.run_refused("repair")
    assert f"Stream {name} holds positions 1 to 101. message 101 of stream" in refused, "one line"
    assert "Begin the programs that consume it anew afterwards" in refused
    assert "no terminal to ask on" in refused
    assert len(asyncio.run(read_stream(nats_server, name))) == 101, "nothing was changed"
    status, output, errors = shell.run("repair", "--from", "51", "--yes", "--json")
    assert status == 0, errors
    report = json.loads(output)
    assert (report["first_difference"], report["first"], report["last"]) == (101, 51, 120)
    billing = {"name": "billing", "read_upto": 60, "goes_on_at": 61, "again": 0, "missed": 0}
    assert billing in report["consumers"]
    assert asyncio.run(read(60)) == list(range(61, 121))
    with_store(lambda store: check_stream(nats_server, store, name, first=51))
    assert shell.run("check")[0] == 0


def test_repair_beside_a_running_publisher_ends_with_the_log(
    shell: Shell, with_store: WithStore, nats_server: NatsServer, name: str
) -> None:
    fill(with_store, 500)
    with shell.publish() as process:
        wait(nats_server, name, 500)
        assert shell.run("repair", "--from", "200", "--yes")[0] == 0
        fill(with_store, 500)
        wait(nats_server, name, 1000)
        assert process.poll() is None, shell.log.read_text()
    with_store(lambda store: check_stream(nats_server, store, name, first=200))


def test_wrong_arguments_are_refused_and_change_nothing(shell: Shell, nats_server: NatsServer) -> None:
    for arguments, line in (
        (("publish", "--nats", f"http://user:{PASSWORD}@localhost"), "--nats, LEDGER_NATS_URL: no URL of a"),
        (("publish", "--creds", "/nowhere/x.creds"), "--creds, LEDGER_NATS_CREDS: no such file: /nowhere/x"),
        (("publish", "--stream", "a b"), "--stream: letters, digits, _ and - only"),
        (("publish", "--prefix", "$JS"), "--prefix: letters, digits, _ and - only"),
        (("repair", "--yes"), "--stream: there is no stream"),
        (("check",), "ledger: there is no stream"),
        (("publish", "--from", "1000000"), "--from: position 1000000 is in the future: the log ends at "),
    ):
        refused = shell.run_refused(*arguments)
        assert line in refused
        assert PASSWORD not in refused


def test_no_credentials_are_in_logs_and_errors(
    tmp_path: Path, shell: Shell, with_store: WithStore, name: str
) -> None:
    fill(with_store, 2)
    users = f'authorization {{ user: ledger, password: "{PASSWORD}" }}'
    with run_nats_server(require_program(), options=users) as server:
        right = f"nats://ledger:{PASSWORD}@127.0.0.1:{server.port}"
        wrong = f"nats://ledger:{PASSWORD}-wrong@127.0.0.1:{server.port}"
        with shell.publish(nats_url=right, log_level="debug"):
            _wait_for_line(shell, '"feed_publisher_connected"')
        with shell.publish(nats_url=wrong, log_level="debug"):
            _wait_for_line(shell, "the server refuses the credentials")
        refused = shell.run_refused("check", nats_url=wrong)
        assert f"no connection to nats://127.0.0.1:{server.port}: the server refuses" in refused
    assert PASSWORD not in shell.log.read_text() + refused


def test_the_documented_permissions_are_enough_and_keep_others_out(
    tmp_path: Path, dsn: str, with_store: WithStore, name: str
) -> None:
    fill(with_store, 20)
    documented = (
        (ROOT / "docs" / "feed.md").read_text().partition("    permissions: {")[2].partition("    }")[0]
    )
    permissions = documented.replace("LEDGER", name).replace('"ledger.>"', f'"{name}.>"')
    users = f"""authorization {{ users: [
        {{ user: publisher, password: {PASSWORD}, permissions: {{ {permissions} }} }}
        {{ user: reader, password: {PASSWORD}, permissions: {{ publish: ["$JS.API.>"], subscribe: ">" }} }}
    ] }}"""
    with run_nats_server(require_program(), options=users) as server:

        async def intrude() -> None:
            client = await nats.connect(f"nats://reader:{PASSWORD}@127.0.0.1:{server.port}", error_cb=_ignore)
            with pytest.raises(nats.errors.TimeoutError):
                await client.jetstream().publish(f"{name}.x", b"not ours", timeout=0.5)
            info = await client.jetstream().stream_info(name)
            assert info.state.last_seq == 20
            subscription = await client.jetstream().pull_subscribe("", "mirror", stream=name)
            await subscription.fetch(3)
            await client.close()

        shell = Shell(tmp_path, dsn, server, name)
        shell.log.touch()
        url = f"nats://publisher:{PASSWORD}@127.0.0.1:{server.port}"
        with shell.publish("--from", "11", nats_url=url):
            _wait_for_check(shell, nats_url=url)
        asyncio.run(intrude())
        status, _, errors = shell.run("repair", "--from", "5", "--yes", nats_url=url)
        assert status == 0, errors
        assert json.loads(shell.run("check", "--json", nats_url=url)[1])["first"] == 5


async def _ignore(_: Exception) -> None:
    """The client would log that it may not publish."""


def _wait_for_check(shell: Shell, **settings: Any) -> None:
    """Wait until the stream has the whole log."""
    deadline = time.monotonic() + 60
    while True:
        status, output, _ = shell.run("check", "--json", **settings)
        if status == 0 and (found := json.loads(output))["last"] == found["head"]:
            return
        assert time.monotonic() < deadline, shell.log.read_text()


def _wait_for_line(shell: Shell, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in shell.log.read_text():
        assert time.monotonic() < deadline, shell.log.read_text()
        time.sleep(0.05)


def test_a_copy_of_the_database_publishes_nothing(
    shell: Shell, with_store: WithStore, nats_server: NatsServer, name: str, dsn: str
) -> None:
    fill(with_store, 3)
    shell.run_ledger("webhooks", "pause", "--copy", "--reason", "restore drill")
    with shell.publish() as process:
        _wait_for_line(shell, "this database is a copy, from which nothing is published")
        assert process.poll() is None
        shell.run_ledger("webhooks", "resume", "--yes")
        wait(nats_server, name, 3)


def test_the_feed_is_printed_line_by_line_and_filtered(shell: Shell, with_store: WithStore, dsn: str) -> None:
    fill(with_store, 600)

    def read(*arguments: str) -> list[dict[str, Any]]:
        ended = shell.run_ledger("feed", "read", *arguments)
        return [json.loads(line) for line in ended.splitlines()]

    items = read()
    assert [item["position"] for item in items] == list(range(1, 601))
    assert read("--after", "590", "--limit", "5") == items[590:595]
    assert read("--object", items[7]["object"]) == [items[7]]
    assert read("--type", "customer.*", "--after", "598") == items[598:]
    assert read("--type", "charge.*") == []
    for arguments, line in (
        (("--after", "601"), "--after: position 601 is in the future: the log ends at 600"),
        (("--type", "charge.captred"), "Did you mean"),
        (("--account", "acct_none"), "--account: no such account: acct_none"),
    ):
        assert line in shell.run_ledger_refused("feed", "read", *arguments)


def test_the_feed_is_followed_until_a_signal(shell: Shell, with_store: WithStore) -> None:
    fill(with_store, 2)
    with shell.start("feed", "read", "--follow", "--after", "1") as process:
        fill(with_store, 2)
        _wait_for_line(shell, '"position":4')
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    assert [json.loads(line)["position"] for line in shell.log.read_text().splitlines()] == [2, 3, 4]

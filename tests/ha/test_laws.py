"""A load over a server that crashes, and the laws: they hold afterwards, and each of them can fail."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate
from tests.ha import laws
from tests.ha.laws import Scene, check_laws
from tests.ha.load import open_target, run_load
from tests.ha.record import Failure, Record, Request, Write
from tests.ha.services import create_endpoint, run_ha_service
from tests.serving.process import list_children
from tests.webhooks.receiver import run_receiver

CRASHES = 2
Objects = dict[tuple[str, str], dict[str, str]]


class Outcome(NamedTuple):
    """The end of a run: what the laws judge, and the processes of the service before and after it."""

    scene: Scene
    objects: Objects
    before: dict[int, str]
    after: dict[int, str]
    log: str


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    """A load over a service whose server crashes and comes back; then the service is stopped."""
    place = Path(tempfile.mkdtemp(prefix="ha-laws-"))
    place.chmod(0o711)
    server = EmbeddedPostgres(place / "server", settings={"shared_buffers": "16MB"})
    server.start()
    try:
        migrate(server.dsn())
        yield _run(server, place)
    finally:
        server.destroy()
        shutil.rmtree(place)


def _run(server: EmbeddedPostgres, place: Path) -> Outcome:
    dsn = server.dsn()
    with run_receiver() as receiver, run_ha_service(place, dsn) as service:
        target = open_target(service.url, dsn)
        create_endpoint(target, receiver)
        before = list_children(service.process.pid)
        with run_load(target) as load:
            for _ in range(CRASHES):
                load.wait_for_writes(40)
                server.kill()
                server.start()
            load.wait_for_writes(40)
            load.stop()
        load.resolve()
        scene = Scene(
            target, load.record, dsn, place, receiver.requests, checkpoint_file=place / "checkpoint"
        )
        check_laws(scene)
        objects = {key: dict(metadata) for key, metadata in laws.list_objects(target).items()}
        return Outcome(scene, objects, before, list_children(service.process.pid), service.log)


@contextmanager
def change_copy(scene: Scene, *statements: str) -> Iterator[Scene]:
    """The scene with a copy of its database in which `statements` were executed, without the triggers that
    refuse them."""
    name = f"copy_{os.urandom(4).hex()}"
    maintenance = make_conninfo(scene.dsn, dbname="postgres")
    copy = make_conninfo(scene.dsn, dbname=name)
    with psycopg.connect(maintenance, autocommit=True) as conn:
        conn.execute(SQL("CREATE DATABASE {} TEMPLATE ledger").format(Identifier(name)))
        try:
            with psycopg.connect(copy) as changed:
                changed.execute("SET session_replication_role = replica")
                for statement in statements:
                    assert changed.execute(statement.encode()).rowcount > 0, statement
            yield scene._replace(dsn=copy)
        finally:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def test_a_load_over_crashes_of_the_server_breaks_no_law(outcome: Outcome) -> None:
    record = outcome.scene.record
    assert laws.find_restarts(outcome.before, outcome.after) == []
    assert laws.find_secrets(outcome.log) == []
    prefixes = {write.id.partition("_")[0] for write in record.writes}
    assert {"cus", "pi", "ch", "du"} == prefixes
    assert any(not write.mark for write in record.writes), "customer sessions too"
    assert 0.0 < record.find_gap() < 15.0
    assert {request.method for request in record.requests} == {"GET", "POST"}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger.events WHERE notification_id = 20",
        "UPDATE ledger.events SET recorded_at = recorded_at - interval '1 hour' WHERE notification_id = 20",
    ],
)
def test_positions_with_a_hole_are_found(outcome: Outcome, statement: str) -> None:
    with change_copy(outcome.scene, statement) as changed, psycopg.connect(changed.dsn) as conn:
        assert len(laws.find_gaps_in_positions(conn)) == 1


def test_an_acknowledged_write_that_is_not_there_is_found(outcome: Outcome) -> None:
    scene, account = outcome.scene, outcome.scene.target.account
    with psycopg.connect(scene.dsn) as conn:
        assert laws.find_lost_writes(scene.record, outcome.objects, conn, account) == []
        write = next(write for write in scene.record.writes if write.mark)
        without = {key: value for key, value in outcome.objects.items() if key[1] != write.id}
        assert laws.find_lost_writes(scene.record, without, conn, account)
        unmarked = {
            key: {name: value for name, value in metadata.items() if name != write.mark}
            for key, metadata in outcome.objects.items()
        }
        assert laws.find_lost_writes(scene.record, unmarked, conn, account) == [
            f"acknowledged write that no list shows: {write}"
        ]
        invented = Record()
        invented.writes.append(Write("cus_1", "", "key-1", 0.0))
        assert len(laws.find_lost_writes(invented, outcome.objects, conn, account)) == 1
        invented.writes[0] = write._replace(key="key-1")
        assert len(laws.find_missing_feed_entries(invented, conn, account)) == 1


def test_a_write_that_took_effect_twice_is_found(outcome: Outcome) -> None:
    scene, account = outcome.scene, outcome.scene.target.account
    kind, id = next(key for key, metadata in outcome.objects.items() if metadata)
    doubled = outcome.objects | {(kind, f"{id}_again"): outcome.objects[kind, id]}
    with psycopg.connect(scene.dsn) as conn:
        assert laws.find_doubled_writes(outcome.objects, conn, account) == []
        assert laws.find_doubled_writes(doubled, conn, account)
    again = f"""
    UPDATE ledger.events SET idempotency_key = (
        SELECT idempotency_key FROM ledger.events e
        WHERE e.account = '{account}' AND e.idempotency_key IS NOT NULL AND e.request_id <> events.request_id
        ORDER BY notification_id LIMIT 1)
    WHERE notification_id = (SELECT max(notification_id) FROM ledger.events WHERE idempotency_key IS NOT NULL)
    """
    with change_copy(scene, again) as changed, psycopg.connect(changed.dsn) as conn:
        assert len(laws.find_doubled_writes({}, conn, account)) == 1


def test_a_webhook_that_did_not_come_or_should_not_have_is_found(outcome: Outcome) -> None:
    scene, account = outcome.scene, outcome.scene.target.account
    with psycopg.connect(scene.dsn) as conn:
        assert laws.find_webhook_errors(scene.received, conn, account) == []
        lost = [each for each in scene.received if each.body != scene.received[0].body]
        assert len(laws.find_webhook_errors(lost, conn, account)) == 1
        of_nothing = scene.received[0]._replace(body=b'{"id": "evt_of_nothing"}')
        assert laws.find_webhook_errors([*scene.received, of_nothing], conn, account) == [
            "webhook of an Event that the feed does not have: evt_of_nothing"
        ]


CHANGES = [
    ("ledger projections verify", "DELETE FROM projections.feed WHERE position = 20"),
    ("ledger audit reconcile", "UPDATE projections.postings SET amount = amount + 1 WHERE amount = 2000"),
    ("ledger audit verify", "UPDATE ledger.events SET actor = 'another' WHERE notification_id = 20"),
    (
        "ledger audit verify",  # the end of the log is cut off
        "DELETE FROM ledger.events WHERE notification_id = (SELECT max(notification_id) FROM ledger.events)",
    ),
]


@pytest.mark.parametrize(("command", "statement"), CHANGES)
def test_a_view_or_a_tree_that_differs_from_the_log_is_found(
    outcome: Outcome, command: str, statement: str
) -> None:
    with change_copy(outcome.scene, statement) as changed:
        violations = laws.find_wrong_views(changed)
        assert any(violation.startswith(command) for violation in violations), violations


def test_background_work_that_stays_behind_is_found(outcome: Outcome) -> None:
    behind = "UPDATE webhooks.checkpoint SET position = position - 1"
    found = pytest.raises(AssertionError, match="fan-out of webhooks")
    with change_copy(outcome.scene, behind) as changed, found:
        laws.wait_until_quiet(changed.dsn, seconds=0.2)


def test_a_wrong_or_slow_answer_is_found() -> None:
    record = Record()
    good = Request("POST", "/v1/customers", 0.0, 10.4, 503, "true", "")
    record.requests.append(good)
    assert laws.find_wrong_statuses(record) == laws.find_slow_requests(record, 10.0) == []
    for wrong in (
        good._replace(retry=None),
        good._replace(status=500),
        good._replace(status=None, error="ReadError('')"),
    ):
        record.requests = [wrong]
        assert len(laws.find_wrong_statuses(record)) == 1
    record.requests = [good._replace(seconds=10.6)]
    assert len(laws.find_slow_requests(record, 10.0)) == 1


def test_an_error_of_the_official_client_and_a_contradiction_are_found() -> None:
    record = Record()
    assert laws.find_sdk_failures(record) == laws.find_contradictions(record) == []
    record.failures.append(Failure("write sdk1_1", "APIError: it is late", 0.0))
    record.contradictions.append("cus_1: 404 to a read")
    assert len(laws.find_sdk_failures(record)) == len(laws.find_contradictions(record)) == 1


def test_a_process_that_was_restarted_and_a_secret_are_found() -> None:
    assert laws.find_restarts({1: "ledger api", 2: "ledger worker"}, {1: "ledger api", 3: "ledger worker"})
    assert laws.find_secrets('{"event": "request", "key": "sk_test_abcdefgh"}')

"""What must hold after every failure, whatever failed: laws over what clients remember (`tests.ha.load`), the
log, the views, the receivers of webhooks and the processes of the service.

Each `find_…` returns its violations, one line each, so that a test shows all that is wrong at once;
`check_laws` asserts that there are none. tests/ha/test_laws.py shows for each law that it can fail.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import stripe

from tests.api.conftest import SECRETS
from tests.api.service import name_bases
from tests.ha.clients import read_metadata
from tests.ha.record import Record, Target
from tests.serving.process import SERVICE_KEY, run_ledger
from tests.webhooks.receiver import ReceivedRequest

REQUEST_SECONDS = 10.0
"""The default of LEDGER_REQUEST_TIMEOUT_MS."""
REQUEST_SLACK_SECONDS = 0.5
SHOWN_MAX = 8
LISTED = ("customers", "charges", "payment_intents", "disputes")

_POSITIONS = """
SELECT count(*), min(notification_id), max(notification_id), (SELECT position FROM ledger.head)
FROM ledger.events
"""
_TIMES = """
SELECT notification_id FROM (
    SELECT notification_id, recorded_at, lag(recorded_at) OVER (ORDER BY notification_id) AS before
    FROM ledger.events
) AS events
WHERE recorded_at < before ORDER BY notification_id
"""
_KEYS = """
SELECT idempotency_key, count(DISTINCT request_id) FROM ledger.events
WHERE idempotency_key IS NOT NULL AND account = %s GROUP BY idempotency_key
"""
_STREAMS = "SELECT DISTINCT originator_id FROM ledger.events WHERE account = %s"
_FEED = """
SELECT f.id, f.position, f.idempotency_key FROM projections.feed f
JOIN projections.live l ON l.projection = 'feed' AND l.generation = f.generation
WHERE f.account = %s ORDER BY f.position, f.ordinal
"""
_ENDPOINTS = """
SELECT min(notification_id) FROM ledger.events WHERE topic = 'webhook_endpoint.created' AND account = %s
"""
_BEHIND = """
SELECT what FROM (
    SELECT l.projection AS what, c.position FROM projections.live l
    JOIN projections.checkpoints c ON c.projection = l.projection AND c.generation = l.generation
    UNION ALL SELECT 'fan-out of webhooks', position FROM webhooks.checkpoint
    UNION ALL SELECT 'sealing', size FROM ledger.tree_head
) AS followers
WHERE position < (SELECT position FROM ledger.head)
UNION ALL
SELECT count(*) || ' pending webhooks' FROM webhooks.deliveries WHERE state = 'pending' HAVING count(*) > 0
"""


class Scene(NamedTuple):
    """What the laws judge. `dsn`: the database that is the primary now, as its superuser or owner.
    `received`: what an endpoint of the target's account for all types was sent. `checkpoint_file`:
    LEDGER_CHECKPOINT_FILE of the service, if it has one."""

    target: Target
    record: Record
    dsn: str
    data_dir: Path
    received: Sequence[ReceivedRequest] = ()
    checkpoint_file: Path | None = None
    secret_key: str = SERVICE_KEY

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`ledger` with these arguments, on this database."""
        return run_ledger(
            self.data_dir, *arguments, database_url=self.dsn, secret_key=self.secret_key, test_clock=True
        )


def check_laws(
    scene: Scene,
    *,
    request_seconds: float = REQUEST_SECONDS,
    sdk_failures: bool = False,
    quiet_seconds: float = 30.0,
) -> None:
    """Assert every law that needs no knowledge of what failed. `sdk_failures`: whether the official client
    may have raised errors, as it may in an outage longer than its retries."""
    wait_until_quiet(scene.dsn, seconds=quiet_seconds)
    with psycopg.connect(scene.dsn, autocommit=True) as conn:
        objects = list_objects(scene.target)
        violations = [
            *find_gaps_in_positions(conn),
            *find_lost_writes(scene.record, objects, conn, scene.target.account),
            *find_doubled_writes(objects, conn, scene.target.account),
            *find_contradictions(scene.record),
            *find_wrong_statuses(scene.record),
            *find_slow_requests(scene.record, request_seconds),
            *([] if sdk_failures else find_sdk_failures(scene.record)),
            *find_webhook_errors(scene.received, conn, scene.target.account),
            *find_missing_feed_entries(scene.record, conn, scene.target.account),
        ]
    violations += find_wrong_views(scene)
    assert not violations, "\n" + "\n".join(violations)


def wait_until_quiet(dsn: str, *, seconds: float = 30.0) -> None:
    """Return once all background work has caught up with the log, by itself."""
    deadline = time.monotonic() + seconds
    with psycopg.connect(dsn, autocommit=True) as conn:
        while behind := [row[0] for row in conn.execute(_BEHIND).fetchall()]:
            assert time.monotonic() < deadline, f"still behind the log after {seconds:g} s: {behind}"
            time.sleep(0.1)


def list_objects(target: Target) -> Mapping[tuple[str, str], Mapping[str, str]]:
    """The metadata of all objects of the account, by kind and id, as the public API lists them."""
    client = stripe.StripeClient(target.secret, base_addresses=name_bases(target.url), max_network_retries=6)
    found = {}
    for kind in LISTED:
        page: Any = getattr(client.v1, kind).list({"limit": 100})
        for item in page.auto_paging_iter():
            found[kind, item.id] = read_metadata(item)
    return found


def find_gaps_in_positions(conn: psycopg.Connection[Any]) -> list[str]:
    """Positions are 1 to n, n is the head, and times do not decrease along them."""
    [(count, first, last, head)] = conn.execute(_POSITIONS).fetchall()
    violations = []
    if (count, first, last) != (head, 1, head):
        violations.append(f"positions: {count} events from {first} to {last}, but the head is {head}")
    earlier = [row[0] for row in conn.execute(_TIMES).fetchall()]
    return violations + _summarize("position recorded before its predecessor", earlier)


def find_lost_writes(
    record: Record,
    objects: Mapping[tuple[str, str], Mapping[str, str]],
    conn: psycopg.Connection[Any],
    account: str,
) -> list[str]:
    """Each acknowledged write is in the log, under its key or its id, and its object has its mark in the
    lists."""
    known = {row[0] for query in (_KEYS, _STREAMS) for row in conn.execute(query, (account,)).fetchall()}
    marks = {id: set(metadata) for (_, id), metadata in objects.items()}
    not_logged = [str(write) for write in record.writes if (write.key or write.id) not in known]
    not_shown = [
        str(write) for write in record.writes if write.mark and write.mark not in marks.get(write.id, ())
    ]
    return [
        *_summarize("acknowledged write that is not in the log", not_logged),
        *_summarize("acknowledged write that no list shows", not_shown),
    ]


def find_doubled_writes(
    objects: Mapping[tuple[str, str], Mapping[str, str]], conn: psycopg.Connection[Any], account: str
) -> list[str]:
    """No write took effect twice, however often it was sent: one object of a kind for each mark, one request
    for each key."""
    marks = Counter((kind, mark) for (kind, _), metadata in objects.items() for mark in metadata)
    rows = conn.execute(_KEYS, (account,)).fetchall()
    return [
        *_summarize("mark of several objects", [str(mark) for mark, count in marks.items() if count > 1]),
        *_summarize("key that took effect in several requests", [key for key, count in rows if count > 1]),
    ]


def find_contradictions(record: Record) -> list[str]:
    """No answer contradicts an earlier one, and each write that was repeated until it was answered is."""
    unknown = [call.mark or call.key for call in record.unresolved]
    return [
        *_summarize("contradiction", record.contradictions),
        *_summarize("write of unknown outcome that was not repeated", unknown),
    ]


def find_wrong_statuses(record: Record) -> list[str]:
    """A request is answered with success, or with 503 and `Stripe-Should-Retry: true`; no connection is
    dropped."""
    wrong = [
        f"{request.method} {request.path}: {request.status} {request.error}"
        for request in record.requests
        if request.status != 200 and (request.status, request.retry) != (503, "true")
    ]
    return _summarize("wrong answer to a bare client", wrong)


def find_slow_requests(record: Record, seconds: float) -> list[str]:
    """No request takes longer than its limit, and a little."""
    slow = [
        f"{request.method} {request.path}: {request.status} after {request.seconds:.1f} s"
        for request in record.requests
        if request.seconds > seconds + REQUEST_SLACK_SECONDS
    ]
    return _summarize(f"request longer than {seconds:g} s", slow)


def find_sdk_failures(record: Record) -> list[str]:
    """The official client, with its retries, raised no error to its application."""
    return _summarize(
        "error of the official client", [f"{each.what}: {each.error}" for each in record.failures]
    )


def find_webhook_errors(
    received: Iterable[ReceivedRequest], conn: psycopg.Connection[Any], account: str
) -> list[str]:
    """Each Event after the creation of the account's endpoint was received, at least once; none was received
    that the feed does not have: what is sent is never lost."""
    got = {json.loads(request.body)["id"] for request in received}
    [(created,)] = conn.execute(_ENDPOINTS, (account,)).fetchall()
    feed = conn.execute(_FEED, (account,)).fetchall()
    owed = {id for id, position, _ in feed if created is not None and position > created}
    return [
        *_summarize("Event that no webhook brought", sorted(owed - got)),
        *_summarize(
            "webhook of an Event that the feed does not have", sorted(got - {row[0] for row in feed})
        ),
    ]


def find_missing_feed_entries(record: Record, conn: psycopg.Connection[Any], account: str) -> list[str]:
    """The feed has an Event of each acknowledged write under a key of an object with metadata, and no Event
    twice."""
    feed = conn.execute(_FEED, (account,)).fetchall()
    keys, ids = {row[2] for row in feed}, Counter(row[0] for row in feed)
    missing = [str(write) for write in record.writes if write.mark and write.key and write.key not in keys]
    return [
        *_summarize("acknowledged write without an Event", missing),
        *_summarize("Event that the feed has twice", [id for id, count in ids.items() if count > 1]),
    ]


def find_wrong_views(scene: Scene) -> list[str]:
    """The service's own checks find no difference: of all projections (the feed is one), of all money, of the
    sealed tree with all checkpoints, and of the checkpoint that was copied to a file."""
    against = (
        ["--against", str(scene.checkpoint_file)]
        if scene.checkpoint_file is not None and scene.checkpoint_file.exists()
        else []
    )
    commands = (("projections", "verify"), ("audit", "reconcile"), ("audit", "verify", *against))
    violations = []
    for command in commands:
        completed = scene.run(*command)
        if completed.returncode != 0:
            output = (completed.stdout + completed.stderr).strip()
            violations.append(f"ledger {' '.join(command)}: {output[-1000:]}")
    return violations


def find_restarts(before: Mapping[int, str], after: Mapping[int, str]) -> list[str]:
    """The processes of the service are those of before: nothing and nobody has restarted one."""
    return [f"process {pid} ({name}) has ended" for pid, name in before.items() if pid not in after]


def find_secrets(log: str) -> list[str]:
    """The log of the service has no secret: no key, client secret, webhook secret or password."""
    return _summarize("secret in the log", sorted(set(SECRETS.findall(log))))


def _summarize(what: str, violations: Sequence[object]) -> list[str]:
    """One line for each violation; of many only the first, and their number."""
    lines = [f"{what}: {violation}" for violation in violations[:SHOWN_MAX]]
    return lines + [f"{what}: {len(violations)} in all"] * (len(violations) > SHOWN_MAX)

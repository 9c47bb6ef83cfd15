"""Acknowledged means replicated (invariant 3): no answer says that something is done which no standby has.

The primary shows such a thing after its wait for the standby was ended, and after a crash restart.
"""

from __future__ import annotations

import re
from concurrent.futures import Future

import httpx

from tests.api.service import assert_refused, ok
from tests.replication.conftest import Stage

BARRIER = "durability"


def test_a_cancelled_wait_is_no_success(stage: Stage) -> None:
    path = f"/v1/customers/{stage.caller.customer(name='Ada')['id']}"
    answer = stage.leave_unreplicated(path, {"name": "Eve"}, idempotency_key="cancelled")
    assert answer.status_code >= 500, answer.text
    # A GET of one object may show it (docs/high-availability.md).
    assert ok(stage.caller.get(path))["name"] == "Eve"
    stage.servers.resume_standby()
    assert ok(stage.caller.post(path, {"name": "Eve"}, idempotency_key="cancelled"))["name"] == "Eve"


def test_a_batch_that_is_sent_again_waits_for_the_standby(stage: Stage) -> None:
    """Its backend was ended while it waited: what it had written is visible then."""
    stage.servers.pause_standby()
    create = stage.begin(stage.caller.post, "/v1/customers", {"name": "Ada"})
    stage.end_wait("journal", "terminate")
    [created] = assert_waits_for_standby(stage, create, name="journal")
    ok(created)
    position = stage.servers.primary.fetch_value("SELECT position FROM ledger.head", "ledger")
    assert created.headers["ledger-position"] == str(position)


def test_a_change_that_is_repeated_without_a_key_waits_for_the_standby(stage: Stage) -> None:
    path = f"/v1/customers/{stage.caller.customer(name='Ada')['id']}"
    stage.leave_unreplicated(path, {"name": "Eve"})
    repeated, refused = assert_waits_for_standby(
        stage,
        stage.begin(stage.caller.post, path, {"name": "Eve"}),
        stage.begin(stage.caller.post, path, {"source": "tok_chargeDeclined"}),
    )
    assert ok(repeated)["name"] == "Eve"
    assert refused.status_code == 402, refused.text


def test_a_kept_reply_that_is_read_waits_for_the_standby(stage: Stage) -> None:
    """A key is created once for each Idempotency-Key: its reply is read, and nothing is appended."""
    body = {"kind": "sk", "name": "web"}
    stage.servers.pause_standby()
    create = stage.begin(stage.post_internal, "keys", body, "key")
    stage.wait_for_standby(BARRIER)
    repeated = stage.begin(stage.post_internal, "keys", body, "key")
    other = stage.begin(stage.post_internal, "keys", {**body, "name": "app"}, "key")
    _, *answers = assert_waits_for_standby(stage, create, repeated, other)
    assert_refused(answers[0], 409, code="secret_shown_once", kind="idempotency_error")
    assert_refused(answers[1], 400, kind="idempotency_error")


def test_a_command_in_a_shell_waits_for_the_standby(stage: Stage) -> None:
    stage.servers.pause_standby()
    create = stage.begin_command("keys", "create", stage.account, "--name", "shell")
    stage.end_wait("cli")
    refused = create.result()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(r"ledger: .*committed, but a wait for standbys was ended.*\n", refused.stderr)
    repeated = stage.begin_command("webhooks", "resume")  # they are on: nothing to change
    stage.wait_for_standby("cli")
    assert not repeated.done()
    stage.servers.resume_standby()
    assert repeated.result().returncode == 0, repeated.result()


def test_operators_leave_no_session_that_waits_for_the_standby(stage: Stage) -> None:
    """Each would stay until the standby is back, and they would take all connections of the server. Their
    answers wait for the barrier that all share."""
    stage.servers.pause_standby()
    verify = stage.begin(stage.post_internal, "projections/customers/verify", {}, "verify")
    stage.wait_for_standby(BARRIER)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    assert stage.servers.primary.fetch_value(f"{waiting} AND application_name <> 'ledger {BARRIER}'") == 0
    assert not verify.done()
    stage.servers.resume_standby()
    assert verify.result().status_code == 200, verify.result().text


def assert_waits_for_standby(
    stage: Stage, *requests: Future[httpx.Response], name: str = BARRIER
) -> list[httpx.Response]:
    """Assert that none of the requests is answered before the standby is back, for which the connection
    `name` waits; their answers."""
    stage.wait_for_standby(name)
    assert not any(request.done() for request in requests), [
        request.result().text for request in requests if request.done()
    ]
    stage.servers.resume_standby()
    return [request.result() for request in requests]

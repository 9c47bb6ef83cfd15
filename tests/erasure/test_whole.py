"""The whole story of one erasure: a person with marks everywhere, and another one who stays.

What is looked at afterwards: every answer, every file, a dump, the WAL of all that was ever written, a
standby. Proofs made before still verify, and a rebuild makes the same rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from tests.api.service import ok
from tests.erasure.answers import Answer, find_shown, read_all
from tests.erasure.markers import Person
from tests.erasure.scans import (
    describe,
    find_bytes,
    find_places,
    scan_data_directory,
    scan_dump,
    scan_files,
    scan_wal,
)
from tests.erasure.stage import ACCEPTED_PATH, PREVIEW, Stage, run_stage
from tests.erasure.traces import Traces, plant
from tests.postgres.standby import ReplicatedServers, run_replicated
from tests.serving.process import run_ledger
from tests.stripe_cli.cli import OBSTACLE, StripeCli, run_refusing_proxy
from tests.webhooks.receiver import ScriptedResponse, wait_until

MARKS_MIN = 40


class Story(NamedTuple):
    """Both persons, and what was seen before and after one of them was erased.

    wraps      the wrapped keys of what was erased, by subject
    proofs     proof files of all positions, made before
    wal_start  where the WAL was when nobody had left anything yet
    """

    servers: ReplicatedServers
    stage: Stage
    ada: Traces
    ben: Traces
    before: dict[str, list[Answer]]
    after: dict[str, list[Answer]]
    wraps: dict[str, bytes]
    proofs: dict[int, str]
    checkpoint: str
    wal_start: str
    job: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("whole")
    with (
        run_replicated(settings={"wal_keep_size": "2GB"}) as servers,
        run_stage(servers.primary.dsn(), folder) as stage,
    ):
        wal_start = servers.primary.read_wal_position()
        with run_stripe_cli(stage, folder):
            ada, ben = plant(stage, Person("Ada")), plant(stage, Person("Ben"))
            stage.wait_for_projections()
        before = {traces.person.name: read_all(traces) for traces in (ada, ben)}
        write_exports(stage, folder)
        checkpoint, proofs = keep_proofs(stage, folder)
        with psycopg.connect(stage.service.dsn) as conn:
            keys = conn.execute("SELECT subject, wrapped FROM ledger.data_keys").fetchall()
        job = stage.erase(customers=[ada.customer])
        stage.wait_for_projections()
        with psycopg.connect(stage.service.dsn) as conn:
            row = conn.execute(
                "SELECT array_agg(subject) FROM ledger.data_keys WHERE wrapped IS NULL"
            ).fetchone()
        assert row is not None
        destroyed = set(row[0])
        wraps = {subject: bytes(wrapped) for subject, wrapped in keys if subject in destroyed}
        after = {traces.person.name: read_all(traces) for traces in (ada, ben)}
        servers.wait_caught_up()
        yield Story(servers, stage, ada, ben, before, after, wraps, proofs, checkpoint, wal_start, job)


@contextmanager
def run_stripe_cli(stage: Stage, folder: Path) -> Iterator[None]:
    """`stripe listen` and `stripe logs tail` meanwhile, where the Stripe CLI is installed. What it forwards
    is sent back, and the service keeps that answer."""
    if OBSTACLE is not None:
        yield
        return
    home = folder.with_name("cli-home")
    home.mkdir()
    with run_refusing_proxy() as proxy:
        cli = StripeCli(home, stage.service.url, stage.raw.key or "", proxy)
        stage.receiver.scripts["/forwarded"] = [ScriptedResponse(body=None)]
        with (
            cli.listen("--forward-to", stage.receiver.url("/forwarded")) as listener,
            cli.start("logs", "tail", "--format", "JSON") as tail,
        ):
            tail.wait_for("Ready!")
            yield
            listener.wait_for(r"<--.*\[200\]", 20)


def write_exports(stage: Stage, folder: Path) -> None:
    """Every kind of export that a command writes to a file."""
    account = ("--account", stage.account.id)
    stage.service.run_command("export", str(folder / "clear.ndjson"), *account, "--unseal")
    stage.service.run_command("export", str(folder / "without.ndjson"), *account)
    stage.service.run_command("audit", "export", "--out", str(folder / "sealed.ndjson"), *account)
    head = ok(stage.operator.get("/audit/log?limit=1"))["data"][0]["position"]
    stage.service.run_command("audit", "archive", str(folder / "archive"), "--before", str(head))


def keep_proofs(stage: Stage, folder: Path) -> tuple[str, dict[int, str]]:
    """A checkpoint, and the proof of each position up to it."""
    head = ok(stage.operator.get("/audit/log?limit=1"))["data"][0]["position"]

    def read_size() -> int:
        return int(stage.operator.get("/audit/checkpoint").text.splitlines()[1])

    wait_until(lambda: read_size() >= head)
    checkpoint = stage.operator.get("/audit/checkpoint").text
    (folder / "checkpoint").write_text(checkpoint)
    proofs = {}
    for position in range(1, head + 1):
        answer = stage.operator.get(f"/audit/proof/{position}.tlog-proof")
        if answer.status_code == 200:
            proofs[position] = answer.text
    return checkpoint, proofs


def test_no_answer_shows_anything_of_the_erased_person(story: Story) -> None:
    assert len(find_shown(story.before["Ada"], story.ada)) > MARKS_MIN
    assert find_shown(story.after["Ada"], story.ada) == {}
    assert find_shown(story.after["Ben"], story.ada) == {}


def test_the_other_person_is_shown_as_before(story: Story) -> None:
    before = find_shown(story.before["Ben"], story.ben)
    after = find_shown(story.after["Ben"], story.ben)
    assert before.keys() == after.keys()
    assert len(after) > MARKS_MIN


def test_whatever_answered_before_answers_still(story: Story) -> None:
    """Except the bytes of the person's files, which are gone."""
    for name in ("Ada", "Ben"):
        before = {answer.name: answer.status for answer in story.before[name]}
        after = {answer.name: answer.status for answer in story.after[name]}
        changed = {each for each in before if each in after and before[each] != after[each]}
        files = {each for each in before if each.endswith("/contents") or each.startswith("link of ")}
        own = {each for each in files if any(file in each for file in _list_files(story.ada))}
        assert changed == (own if name == "Ada" else set()), {each: after[each] for each in changed}


def _list_files(traces: Traces) -> list[str]:
    return [*traces.ids["files"], *traces.ids["file_links"]]


def test_amounts_and_ids_stay(story: Story) -> None:
    raw = story.stage.raw
    for charge in story.ada.ids["charges"]:
        path = f"GET /v1/charges/{charge}"
        before = next(json.loads(each.body) for each in story.before["Ada"] if each.name == path)
        after = ok(raw.get(f"/v1/charges/{charge}"))
        for name in ("id", "amount", "currency", "created", "customer", "paid", "status", "amount_refunded"):
            assert after[name] == before[name], (charge, name)


def test_objects_say_that_they_are_redacted(story: Story) -> None:
    for plural in ("customers", "charges", "payment_intents"):
        for object_id in story.ada.ids[plural]:
            shown = ok(story.stage.raw.call("GET", f"/v1/{plural}/{object_id}", None, PREVIEW))
            assert shown["redaction"] == {"status": "redacted"}, (plural, object_id)
        other = ok(story.stage.raw.call("GET", f"/v1/{plural}/{story.ben.ids[plural][0]}", None, PREVIEW))
        assert other["redaction"] is None


def test_no_text_of_either_is_in_a_dump(story: Story) -> None:
    """Rows are sealed: this holds for the person who stays, too, and did before the erasure."""
    assert describe(scan_dump(story.servers.primary.dsn(), [story.ada.person, story.ben.person])) == {}


def test_no_text_of_either_is_in_a_file_of_the_server(story: Story) -> None:
    persons = [story.ada.person, story.ben.person]
    assert describe(scan_data_directory(story.servers.primary, persons)) == {}


def test_no_text_of_either_is_in_a_file_of_a_standby(story: Story) -> None:
    persons = [story.ada.person, story.ben.person]
    assert describe(scan_data_directory(story.servers.standby, persons)) == {}


def test_no_text_of_either_was_ever_in_the_wal(story: Story) -> None:
    persons = [story.ada.person, story.ben.person]
    assert describe(scan_wal(story.servers.primary, story.wal_start, persons)) == {}


def test_no_destroyed_key_is_in_a_file_of_the_server(story: Story) -> None:
    """Neither of the primary nor of a standby. WAL of before the erasure has the wrapped keys: it is kept
    for as short as backups of keys are (docs/erasure.md)."""
    assert story.ada.customer in story.wraps
    for server in (story.servers.primary, story.servers.standby):
        server.execute("CHECKPOINT")
        found = find_bytes(server.directory, story.wraps)
        assert {each for each in found if not each[1].startswith("pg_wal/")} == set()


def test_no_file_that_the_service_wrote_has_anything_of_the_erased_person(story: Story) -> None:
    """Logs, exports, archives; an export in the clear has the other person still."""
    findings = scan_files([story.stage.folder], [story.ada.person, story.ben.person])
    assert find_places(findings, story.ada.person) == set()
    assert find_places(findings, story.ben.person) == {"clear.ndjson"}


def test_no_receiver_is_sent_anything_of_the_erased_person_again(story: Story) -> None:
    receiver, operator = story.stage.receiver, story.stage.operator
    known = len(receiver.requests)
    endpoints = ok(operator.get("/webhooks/endpoints"))["data"]
    for endpoint in endpoints:
        body = {"endpoint": endpoint["id"], "from": 1, "to": int(time.time()), "reason": "to look again"}
        ok(operator.post("/webhooks/replay", body))
    paths = [each.path for each in receiver.requests[:known]]
    count = paths.count(ACCEPTED_PATH)  # to the other one the breaker lets only a few pass
    wait_until(lambda: len(receiver.requests_to(ACCEPTED_PATH)) >= 2 * count, seconds=60)
    sent = receiver.requests[known:]
    assert any(story.ada.customer.encode() in each.body for each in sent)
    assert not any(story.ada.person.find_places(each.body) for each in sent)


def test_every_proof_made_before_verifies_still(story: Story) -> None:
    """Proofs of all positions, offline; and the log is still the one of the checkpoint of then."""
    folder = story.stage.folder / "proofs"
    folder.mkdir()
    key = ok(story.stage.operator.get("/audit/keys"))["data"][0]["key"]
    (folder / "policy").write_text(f"log {key}\nquorum none\n")
    assert len(story.proofs) > MARKS_MIN
    for position, proof in list(story.proofs.items())[::10]:
        (folder / "event.tlog-proof").write_text(proof)
        arguments = ("verify", str(folder / "event.tlog-proof"), "--policy", str(folder / "policy"))
        assert run_ledger(folder / "none", *arguments).returncode == 0, position
    for position, proof in story.proofs.items():
        again = story.stage.operator.get(f"/audit/proof/{position}.tlog-proof").text
        assert again.splitlines()[1] == proof.splitlines()[1], f"the record at {position} has changed"
    verified = story.stage.service.run_command(
        "audit", "verify", "--against", str(story.stage.folder / "checkpoint")
    )
    assert verified.startswith("Verified")


def test_exports_of_before_verify_still(story: Story) -> None:
    folder, service = story.stage.folder, story.stage.service
    key = ok(story.stage.operator.get("/audit/keys"))["data"][0]["key"]
    service.run_command("audit", "verify-export", str(folder / "sealed.ndjson"), "--key", key)
    service.run_command("audit", "verify-archive", str(folder / "archive"), "--key", key)


def test_the_read_models_are_what_a_rebuild_makes(story: Story) -> None:
    story.stage.service.run_command("projections", "verify", "--all")


def test_the_job_tells_of_itself_in_events(story: Story) -> None:
    events = ok(story.stage.raw.call("GET", "/v1/events?type=privacy.*&limit=100", None, PREVIEW))["data"]
    types = [event["type"] for event in reversed(events)]
    assert types == [f"privacy.redaction_job.{each}" for each in ("created", "ready", "succeeded")]
    assert {event["data"]["object"]["id"] for event in events} == {story.job}

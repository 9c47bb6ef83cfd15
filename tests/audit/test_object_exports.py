"""`ledger export`: what it writes makes the same objects in another ledger, which then exports the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from ledger.audit.reconciliation.reconcile import reconcile
from ledger.audit.reconciliation.report import Difference
from ledger.clock import Clock
from ledger.store.codec import Codec
from tests.api.conftest import check_log
from tests.api.service import SERVICE_KEY, Registrar, Service, ok
from tests.audit.story import MARK, Story, publish_invoice
from tests.conftest import Cluster
from tests.serving.process import run_ledger, run_refused

SEED = 7
STEPS = 30


class Ledger:
    """A database, one of its accounts, and commands on it."""

    def __init__(self, dsn: str, account: str, place: Path) -> None:
        self.dsn, self.account, self._place = dsn, account, place
        self._settings = {"database_url": dsn, "secret_key": SERVICE_KEY, "test_clock": "true"}

    def export(self, *options: str) -> tuple[str, str]:
        ended = run_ledger(
            self._place / "data", "export", "-", "--account", self.account, *options, **self._settings
        )
        assert ended.returncode == 0, ended
        return ended.stdout, ended.stderr

    def take(self, content: str) -> str:
        file = self._place / "lines.ndjson"
        file.write_text(content)
        ended = run_ledger(
            self._place / "data", "import", str(file), "--account", self.account, **self._settings
        )
        assert ended.stdout == ""
        return ended.stderr

    def refuse(self, *arguments: str) -> str:
        return run_refused(self._place / "data", "export", *arguments, **self._settings)


class UntoldStory(Story):
    """A story that keeps nothing of what the API showed."""

    def remember(self, *, by_time_only: bool) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def original(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """An account with a random story, which moves the clock, and disputes that were decided in all ways."""
    place = tmp_path_factory.mktemp("original")
    with cluster.create_database() as dsn:
        service, registrar = Service(dsn, place, LEDGER_DEADLINE_POLL_MS="20"), Registrar(dsn)
        with httpx.Client(base_url=service.url, verify=False, timeout=30) as http:
            story = UntoldStory(service, http, registrar, SEED)
            story.run(STEPS)
            decide_disputes(story)
            publish_invoice(story)
            story.close()
        registrar.close()
        service.stop()
        check_log(service.log)
        yield Ledger(dsn, story.account.id, place)


@pytest.fixture
def copy(cluster: Cluster, original: Ledger, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger whose clock is the original's."""
    with cluster.create_database() as dsn:
        with psycopg.connect(original.dsn) as conn:
            row = conn.execute("SELECT ahead_seconds FROM ledger.clock").fetchone()
        with psycopg.connect(dsn) as conn:
            conn.execute("UPDATE ledger.clock SET ahead_seconds = %s", row)
        settings = {"database_url": dsn, "secret_key": SERVICE_KEY}
        account = run_ledger(tmp_path / "data", "accounts", "create", "Copy", **settings).stdout.strip()
        yield Ledger(dsn, account, tmp_path)


def find_differences(dsn: str) -> list[Any]:
    """What does not agree about money in the log alone: no worker ran on the copy."""
    found: list[Any] = []
    codec = Codec(SERVICE_KEY.encode())
    asyncio.run(reconcile(dsn, codec, Clock(), show=found.append, show_progress=lambda _: None))
    return [each for each in found if isinstance(each, Difference)]


def decide_disputes(story: Story) -> None:
    """Disputes with facts without reference, responses before and after them, and charges that were captured
    in part or refunded."""
    name = story.account.id
    for number, (kind, facts) in enumerate(
        (
            ("chargeback", ["respond", "won"]),
            ("chargeback", ["lost", "appeal_opened", "close"]),
            ("chargeback", ["respond", "lost", "appeal_opened", "appeal", "won"]),
            ("compliance", ["stage"]),
            ("inquiry", ["respond", "escalated", "respond", "lost"]),
            ("inquiry", ["refund"]),
            ("inquiry", ["respond", "inquiry_closed", "update"]),
            ("inquiry", ["close"]),
            ("prevented", []),
        )
    ):
        charge_id, dispute_id = f"ch_{name}_{number}", f"du_{name}_{number}"
        shown: dict[str, Any] = {"id": charge_id, "amount": 5000, "currency": "usd", "amount_captured": 4000}
        shown["payment_method_details"] = {"type": "card", "card": {"brand": "mastercard", "last4": None}}
        ok(story.operator.post("/charges", shown))
        opening = {"id": dispute_id, "charge": charge_id, "kind": kind, "amount": 3000}
        ok(story.operator.post("/disputes", opening))
        for fact in facts:
            _take_step(story, charge_id, dispute_id, fact)


def _take_step(story: Story, charge_id: str, dispute_id: str, step: str) -> None:
    disputes = story.client.v1.disputes
    evidence: Any = {"product_description": MARK, "receipt": story.ids["files"][0]}
    match step:
        case "respond":
            disputes.update(dispute_id, {"evidence": evidence, "metadata": {"of": MARK}})
        case "stage":
            staged: Any = {"enhanced_evidence": {"mastercard_compliance": {"fee_acknowledged": True}}}
            disputes.update(dispute_id, {"evidence": staged, "submit": False})
        case "appeal":
            files = [story.ids["files"][0]]
            appeal: Any = {"appeal": {"card": {"reason_for_filing": MARK, "supporting_files": files}}}
            disputes.update(dispute_id, {"evidence": appeal})
        case "close":
            disputes.close(dispute_id)
        case "update":
            disputes.update(dispute_id, {"metadata": {"later": MARK}})
        case "refund":
            story.client.v1.refunds.create({"charge": charge_id})
        case "escalated":
            body = {"fact": step, "amount": 2000}
            ok(story.operator.post(f"/disputes/{dispute_id}/facts", body))
        case _:
            ok(story.operator.post(f"/disputes/{dispute_id}/facts", {"fact": step}))


def test_a_copy_exports_what_it_was_made_of(original: Ledger, copy: Ledger) -> None:
    content, said = original.export("--unseal")
    lines = [json.loads(line) for line in content.splitlines()]
    assert {line["op"] for line in lines} == {
        "charge", "customer", "deletion", "dispute", "event", "fact", "file", "refund", "resource",
        "response", "webhook_endpoint",
    }  # fmt: skip
    assert f"{len(lines)} lines, everything up to position " in said
    assert "An import takes no payment intents (" in said
    assert "customer sessions (" in said
    assert all(line["disabled"] for line in lines if line["op"] == "webhook_endpoint")
    taken = copy.take(content)
    assert ", 0 unchanged, 0 refused" in taken
    assert find_differences(copy.dsn) == []
    assert copy.export("--unseal")[0] == content
    assert f": 0 changed, {len(lines)} unchanged, 0 refused" in copy.take(content)


def test_without_unseal_there_is_no_personal_data_and_the_rest_is_imported(
    original: Ledger, copy: Ledger
) -> None:
    content, said = original.export()
    assert MARK not in content
    assert "Without --unseal, it has no personal data, and leaves out " in said
    assert ", 0 unchanged, 0 refused" in copy.take(content)
    assert copy.export()[0] == content


def test_an_export_is_recorded(original: Ledger) -> None:
    original.export("--unseal")
    with psycopg.connect(original.dsn) as conn:
        row = conn.execute(
            "SELECT action, parameters FROM ledger.audit_accesses WHERE account = %s "
            "ORDER BY number DESC LIMIT 1",
            (original.account,),
        ).fetchone()
    assert row is not None
    assert (row[0], row[1]["unseal"]) == ("ledger export", "true")


def test_an_export_replaces_no_file(original: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "kept.ndjson"
    file.write_text("kept")
    assert "kept.ndjson exists" in original.refuse(str(file), "--account", original.account)
    assert "no such account" in original.refuse("-", "--account", "acct_none")
    assert file.read_text() == "kept"

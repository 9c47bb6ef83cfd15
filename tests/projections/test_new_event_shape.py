"""The worked example examples/new-event-shape: old events are upcast, and streams may hold both shapes."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import stripe

from ledger.accounts import INTERNAL_SCOPES
from ledger.postgres.connections import open_connection
from projections.rebuild import generations, promotion, records
from tests.api.service import Registrar, name_bases
from tests.conftest import Cluster
from tests.projections.rebuilds import OPERATOR
from tests.projections.releases import EXAMPLES, create_release, run_tests
from tests.serving.process import SERVICE_KEY, run_ledger, run_serve

EXAMPLE = EXAMPLES / "new-event-shape"


def test_the_golden_files_of_both_shapes_load(tmp_path: Path) -> None:
    new = create_release(EXAMPLE / "release.patch", tmp_path / "new")
    golden = new / "tests" / "golden"
    assert len(list(golden.glob("dispute.evidence_submitted.v*.json"))) == 2
    run_tests(new, "--pure", "tests/golden")


def test_a_stream_of_both_shapes_is_read_listed_and_rebuilt(cluster: Cluster, tmp_path: Path) -> None:
    new = create_release(EXAMPLE / "release.patch", tmp_path / "new")
    with cluster.create_database() as dsn, ExitStack() as stack:
        settings: dict[str, Any] = {
            "database_url": dsn, "secret_key": SERVICE_KEY, "verify_pause_seconds": 0, "list_wait_ms": 10_000,
        }  # fmt: skip
        registrar = Registrar(dsn)
        account = registrar.account()
        operator = registrar.key(account.id, "rk", scopes=INTERNAL_SCOPES)[1]
        registrar.close()

        old = stack.enter_context(run_serve(tmp_path / "old", **settings))
        before = create_client(old.url, account.secret)
        submit_evidence(before, open_dispute(before), "winning_evidence")
        lost = submit_evidence(before, open_dispute(before), "losing_evidence")
        recorded = httpx.post(
            f"{old.url}/internal/v1/disputes/{lost}/facts",
            json={"fact": "appeal_opened", "reference": "ref_1"},
            headers={"authorization": f"Bearer {operator}"},
        )
        assert recorded.status_code == 200, recorded.text
        assert load_class_versions(dsn, lost) == [1]

        later = stack.enter_context(run_serve(tmp_path / "later", release=new, **settings))
        after = create_client(later.url, account.secret)
        after.v1.disputes.update(
            lost, {"evidence": {"appeal": {"card": {"reason_for_filing": "New facts."}}}}
        )
        fresh = submit_evidence(after, open_dispute(after), "winning_evidence")
        assert (load_class_versions(dsn, lost), load_class_versions(dsn, fresh)) == ([1, 2], [2])

        # The rows differ in the new field and in nothing else, so the operator accepts the difference.
        rebuilt = run_ledger(tmp_path / "data", "projections", "rebuild", "disputes", release=new, **settings)
        assert "the rebuilt rows differ from the live rows, so nothing was switched" in rebuilt.stderr
        assert asyncio.run(accept_differences(dsn)) == {"state.submission_method"}
        for client in (before, after):
            for disputes in (client.v1.disputes.list().data, [client.v1.disputes.retrieve(lost)]):
                assert {dispute.evidence_details.submission_method for dispute in disputes} == {"manual"}
            assert client.v1.disputes.retrieve(lost).evidence_details.submission_count == 2


async def accept_differences(dsn: str) -> set[str]:
    """Accept the differences of the rebuild, and return the paths that differ."""
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        differences = (await generations.load_last_comparison(conn, "disputes"))["differences"]
        (number,) = await records.list_open(conn)
        await promotion.accept_differences(conn, number, OPERATOR)
    return {path for difference in differences for path in difference["other"]}


def create_client(url: str, secret: str) -> stripe.StripeClient:
    return stripe.StripeClient(secret, base_addresses=name_bases(url), max_network_retries=0)


def open_dispute(client: stripe.StripeClient) -> str:
    charge = client.v1.charges.create({"amount": 2000, "currency": "usd", "source": "tok_createDispute"})
    return client.v1.disputes.list({"charge": charge.id}).data[0].id


def submit_evidence(client: stripe.StripeClient, dispute: str, evidence: str) -> str:
    client.v1.disputes.update(dispute, {"evidence": {"uncategorized_text": evidence}})
    return dispute


def load_class_versions(dsn: str, dispute: str) -> list[int]:
    """The class versions in which the submissions of a dispute are stored."""
    with psycopg.connect(dsn) as conn:
        stored = conn.execute(
            "SELECT state FROM ledger.events WHERE originator_id = %s"
            " AND topic = 'dispute.evidence_submitted' ORDER BY originator_version",
            (dispute,),
        ).fetchall()
    return [json.loads(state).get("class_version", 1) for (state,) in stored]

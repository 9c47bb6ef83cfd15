"""A delivery is under way while the person whom its Event is about is erased."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.api.service import ok
from tests.conftest import Cluster
from tests.erasure.stage import Stage, run_stage
from tests.webhooks.receiver import ScriptedResponse, wait_until

HELD_PATH, NAME = "/held", "Jenny Rosen of Springfield"
LEASE = """
SELECT leased_until FROM webhooks.deliveries d WHERE endpoint = %s AND leased_until > now()
"""
WAITS = """
SELECT FROM ledger.erasures WHERE job = %s AND step = 'lease' AND caches_until < now() - interval '1 second'
"""
ANSWERS = """
SELECT status, coalesce(answer, sealed_answer) FROM webhooks.attempts a
JOIN webhooks.deliveries d ON d.id = a.delivery WHERE d.endpoint = %s
"""


@pytest.fixture
def stage(cluster: Cluster, tmp_path: Path) -> Iterator[Stage]:
    """A service that waits so long for an answer that the lease does not end by itself meanwhile."""
    with (
        cluster.create_database() as dsn,
        run_stage(dsn, tmp_path, LEDGER_WEBHOOK_TIMEOUT_MS="100000") as stage,
    ):
        yield stage


def test_an_erasure_ends_when_the_delivery_does_and_not_with_its_lease(stage: Stage) -> None:
    answered = threading.Event()
    stage.receiver.scripts[HELD_PATH] = [ScriptedResponse(200, body=None, release=answered)]
    form = {"url": stage.receiver.url(HELD_PATH), "enabled_events[]": "customer.created"}
    endpoint = ok(stage.raw.post("/v1/webhook_endpoints", form))["id"]
    customer = stage.raw.customer(name=NAME)["id"]
    (request,) = stage.receiver.wait_for(HELD_PATH, 1)
    assert NAME.encode() in request.body

    with psycopg.connect(stage.service.dsn, autocommit=True) as conn:

        def ask(query: str, *values: object) -> list[Any]:
            return conn.execute(query.encode(), values).fetchall()

        ((lease,),) = ask(LEASE, endpoint)
        job = stage.start_erasure(customers=[customer])
        wait_until(lambda: ask(WAITS, job))
        assert stage.wait_for_status(job, "redacting", "succeeded") == "redacting"
        answered.set()
        stage.wait_for_status(job, "succeeded")
        ((now,),) = ask("SELECT clock_timestamp()")
        assert now < lease
        assert ask(ANSWERS, endpoint) == [(200, None)], "it quotes what it was sent"

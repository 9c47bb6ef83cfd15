"""Read models are verified while a person is being erased, in each step, with some events that they get only
after the erasure has begun: nothing differs, and afterwards all rows are those of a rebuild."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import psycopg
import pytest

from ledger.clock import Clock
from ledger.store.codec import Codec
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild.verification import verify
from tests.api.service import SERVICE_KEY, ok
from tests.conftest import Cluster
from tests.erasure.markers import Person
from tests.erasure.stage import Stage, run_stage
from tests.erasure.test_kills import FIND_HELD, HOLD, HOLD_STEPS, LIST_STEPS, RELEASE
from tests.erasure.traces import Traces, plant
from tests.webhooks.receiver import wait_until

# `disputes` for a list that planting reads, and `redaction_jobs` for the erasure.
NOT_HELD = ("disputes", "redaction_jobs")
HOLD_BATCHES = "SELECT FROM projections.checkpoints WHERE projection <> ALL (%s) FOR UPDATE"


class Verified(NamedTuple):
    """Two persons who were erased together. Of the second one most projections heard after it had begun.

    differing  in each step, and at the end, what a full verification found: by projection the keys of rows
    """

    stage: Stage
    early: Traces
    late: Traces
    differing: dict[str, dict[str, list[str]]]


def list_differing(dsn: str) -> dict[str, list[str]]:
    codec, clock = Codec(SERVICE_KEY.encode()), Clock(movable=True)
    verified = asyncio.run(verify(dsn, codec, clock, PROJECTIONS))
    assert [(each.error, each.left_out) for each in verified] == [(None, [])] * len(PROJECTIONS)
    return {each.projection: each.keys for each in verified if each.differing}


def erase_step_by_step(stage: Stage, early: Traces) -> tuple[Traces, dict[str, dict[str, list[str]]]]:
    """Plant the second person and erase both, with a verification at the end of each step, before its commit.
    The projections go on in the first step."""
    dsn, differing = stage.service.dsn, {}
    with ExitStack() as stack:
        conn = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        batches = stack.enter_context(psycopg.connect(dsn))
        conn.execute(HOLD_STEPS)
        steps = [step for (step,) in conn.execute(LIST_STEPS) if step != "ended"]
        batches.execute(HOLD_BATCHES, (list(NOT_HELD),))
        late = plant(stage, Person("Eve"))
        conn.execute(HOLD, (steps[0],))
        job = stage.start_erasure(customers=[early.customer, late.customer])
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            wait_until(partial(is_held, conn, step))
            if step == steps[0]:
                batches.rollback()
                stage.wait_for_projections()
            differing[step] = list_differing(dsn)
            if following is not None:
                conn.execute(HOLD, (following,))
            conn.execute(RELEASE, (step,))
    stage.wait_for_status(job, "succeeded")
    stage.wait_for_projections()
    return late, differing | {"ended": list_differing(dsn)}


def is_held(conn: psycopg.Connection, step: str) -> bool:
    return bool(conn.execute(FIND_HELD, (step,)).fetchall())


@pytest.fixture(scope="module")
def verified(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verified]:
    folder = tmp_path_factory.mktemp("meanwhile")
    with cluster.create_database() as dsn, run_stage(dsn, folder) as stage:
        early = plant(stage, Person("Ada"))
        stage.wait_for_projections()
        assert list_differing(dsn) == {}
        yield Verified(stage, early, *erase_step_by_step(stage, early))


def test_no_row_differs_in_any_step(verified: Verified) -> None:
    assert len(verified.differing) > 10
    assert {step: found for step, found in verified.differing.items() if found} == {}


@pytest.mark.parametrize("name", ["early", "late"])
def test_every_card_of_an_erased_person_is_found(verified: Verified, name: str) -> None:
    raw, person = verified.stage.raw, getattr(verified, name)
    customer: Any = ok(raw.get(f"/v1/customers/{person.customer}?expand[]=sources"))
    saved = [each["id"] for each in customer["sources"]["data"]]
    assert saved
    listed = ok(raw.get(f"/v1/customers/{person.customer}/payment_methods"))["data"]
    assert {each["id"] for each in listed} == set(saved)
    charged = [ok(raw.get(f"/v1/charges/{each}"))["payment_method"] for each in person.ids["charges"]]
    for card in {*saved, *filter(None, charged)}:
        assert ok(raw.get(f"/v1/payment_methods/{card}"))["id"] == card

"""The rebuild as a state machine: every action from every state moves as drawn, or is refused and changes
nothing."""

from __future__ import annotations

import ast
import asyncio
import re
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger.errors import InvalidProjectionState
from ledger.postgres.connections import Conn, open_connection
from projections.read_models.lists import CUSTOMERS
from projections.rebuild import promotion, records
from projections.rebuild.states import (
    ENDED_STATES,
    OPEN_STATES,
    RUNNING_STATES,
    TRANSITIONS,
    RebuildAction,
    RebuildState,
    TransitionRefused,
    transition,
)
from tests.projections.histories import Author, catch_up, run_story
from tests.projections.rebuilds import OPERATOR, begin_rebuild, load_rebuild

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 60.0
RUNNING = ("filling", "indexing", "catching up", "comparing")
# State and whether it is paused, by action: where it leads from each state in which it is allowed.
EXPECTED: dict[str, dict[tuple[str, bool], tuple[str, bool]]] = {
    "build indexes": {("filling", False): ("indexing", False)},
    "catch up": {("indexing", False): ("catching up", False)},
    "compare": {
        ("catching up", False): ("comparing", False),
        ("comparing", False): ("comparing", False),
    },
    "report differences": {("comparing", False): ("differing", False)},
    "promote": {("comparing", False): ("switched", False)},
    "accept differences": {("differing", False): ("switched", False)},
    "pause": {(state, paused): (state, True) for state in RUNNING for paused in (False, True)},
    "resume": {
        **{(state, paused): (state, False) for state in RUNNING for paused in (False, True)},
        ("differing", False): ("comparing", False),
    },
    "cancel": {
        **{(state, paused): ("cancelled", False) for state in RUNNING for paused in (False, True)},
        ("differing", False): ("cancelled", False),
    },
}
REFUSALS = {
    "accept differences": "has no differences to accept",
    "pause": "waits for a decision on its differences: accept or cancel it",
}
EVERY_STATE = [
    *((state, False) for state in RebuildState),
    *((state, True) for state in RUNNING_STATES),
]


async def put_in_state(conn: Conn, number: int, state: RebuildState, paused: bool) -> tuple[Any, ...]:
    """Put a rebuild where it could be; the whole row."""
    await conn.execute(
        "UPDATE projections.rebuilds SET state = %s, paused = %s, error = 'earlier', changed_at = 'epoch' "
        "WHERE id = %s",
        (state, paused, number),
    )
    return await load_row(conn, number)


async def load_row(conn: Conn, number: int) -> tuple[Any, ...]:
    row = await (await conn.execute("SELECT * FROM projections.rebuilds WHERE id = %s", (number,))).fetchone()
    assert row is not None
    return row


def test_every_action_from_every_state_follows_the_diagram_or_is_refused(dsn: str) -> None:
    async def story(author: Author) -> None:
        number = await begin_rebuild(dsn, [CUSTOMERS])
        assert (await load_rebuild(dsn, number)).state is RebuildState.BACKFILLING
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            for action, (state, paused) in product(RebuildAction, EVERY_STATE):
                before = await put_in_state(conn, number, state, paused)
                expected = EXPECTED[action].get((state, paused))
                if expected is None:
                    with pytest.raises(TransitionRefused, match=f"^rebuild {number} ") as refused:
                        await transition(conn, number, action, error="now")
                    if state not in ENDED_STATES:
                        assert REFUSALS.get(action, f"it cannot {action}") in str(refused.value)
                    assert await load_row(conn, number) == before, (action, state, paused)
                    continue
                assert await transition(conn, number, action, error="now") == expected[0]
                moved = await load_rebuild(dsn, number)
                assert (moved.state, moved.paused, moved.error) == (*expected, "now"), (action, state, paused)
                assert (await load_row(conn, number))[-1] != before[-1], "`changed_at` says when"
            with pytest.raises(InvalidProjectionState, match="there is no rebuild 999"):
                await transition(conn, 999, RebuildAction.PAUSE)

    run_story(dsn, story)


def test_an_operation_that_the_state_refuses_changes_and_records_nothing(dsn: str) -> None:
    """The operators' actions as they call them: with the record, the builds and what is live."""
    dump = """
        SELECT array[(SELECT json_agg(r) FROM projections.rebuilds r)::text,
                     (SELECT json_agg(b) FROM projections.builds b)::text,
                     (SELECT json_agg(l ORDER BY l.projection) FROM projections.live l)::text,
                     (SELECT json_agg(c ORDER BY c.projection) FROM projections.checkpoints c)::text,
                     (SELECT json_agg(o ORDER BY o.id) FROM projections.operations o)::text]
    """
    refused_in: dict[str, set[RebuildState]] = {
        "pause": {RebuildState.DIFFERING, *ENDED_STATES},
        "resume": {*ENDED_STATES},
        "cancel": {*ENDED_STATES},
        "accept": {*RUNNING_STATES, *ENDED_STATES},
    }
    perform = {
        "pause": records.pause,
        "resume": records.resume,
        "cancel": records.cancel,
        "accept": promotion.accept_differences,
    }

    async def story(author: Author) -> None:
        await author.create_customer(email="one@example.com")
        await catch_up(dsn)
        number = await begin_rebuild(dsn, [CUSTOMERS])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            for action, states in refused_in.items():
                for state in states:
                    await put_in_state(conn, number, state, False)
                    before = await (await conn.execute(dump)).fetchall()
                    with pytest.raises(TransitionRefused):
                        await perform[action](conn, number, OPERATOR)
                    assert await (await conn.execute(dump)).fetchall() == before, (action, state)

    run_story(dsn, story)


def test_the_second_of_two_moves_at_once_sees_what_the_first_did(dsn: str) -> None:
    async def story(author: Author) -> None:
        number = await begin_rebuild(dsn, [CUSTOMERS])
        async with (
            open_connection(dsn, "ledger_projector", name="test") as driver,
            open_connection(dsn, "ledger_projector", name="test") as operator,
        ):
            async with driver.transaction():
                await transition(driver, number, RebuildAction.BUILD_INDEXES)
                pausing = asyncio.create_task(records.pause(operator, number, OPERATOR))
                waiting = "SELECT FROM pg_locks WHERE pid = %s AND NOT granted"
                async with asyncio.timeout(WAIT_SECONDS):
                    while True:
                        cur = await driver.execute(waiting, (operator.info.backend_pid,))
                        if cur.rowcount:
                            break
                        await asyncio.sleep(0.01)
            await pausing
            paused = await load_rebuild(dsn, number)
            assert (paused.state, paused.paused) == (RebuildState.INDEXING, True), "not refused, nor undone"

    run_story(dsn, story)


def test_the_states_are_those_that_the_database_accepts(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        row = conn.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'rebuilds_state'"
        ).fetchone()
    assert row is not None
    assert set(re.findall(r"'([a-z ]+)'::text", row[0])) == set(RebuildState)
    assert {*OPEN_STATES, *ENDED_STATES} == set(RebuildState)


def test_the_documentation_draws_each_move_and_no_other() -> None:
    text = (ROOT / "docs/rebuilding.md").read_text()
    documented = {
        (match[1], match[2], match[3])
        for match in re.finditer(r"^\| `([a-z ]+)` \| `([a-z ]+)` \| ([a-z ]+) \|", text, re.MULTILINE)
    }
    assert documented == {
        (source, target, action)
        for action, allowed in TRANSITIONS.items()
        for source, target in allowed.moves.items()
        if action not in (RebuildAction.PAUSE, RebuildAction.CANCEL)
        if (action, source) != (RebuildAction.RESUME, target)  # the same state, no longer paused
    }


def test_state_names_are_written_only_in_the_state_machine() -> None:
    """Elsewhere they are members of the enumeration; SQL takes them as parameters."""
    names = "|".join(RebuildState)
    for path in (ROOT / "projections").rglob("*.py"):
        if path.name == "states.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                place = f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
                assert not re.search(rf"'({names})'", node.value), place
                # "differing" is also what a verification counts.
                assert node.value not in set(RebuildState) - {"differing"}, place
            if isinstance(node, ast.Compare):
                operands = [node.left, *node.comparators]
                assert not any(
                    isinstance(each, ast.Constant) and each.value == "differing" for each in operands
                )

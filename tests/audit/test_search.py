"""A search finds exactly what a plain filter over the log finds, whatever state the audit index is in."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger.audit.auditor import Auditor
from ledger.audit.search import pages
from ledger.audit.search.entries import LogEntry
from ledger.audit.search.filters import LogFilters
from ledger.audit.search.pages import search_log
from ledger.call import Cause
from ledger.postgres.connections import Conn, open_connection
from ledger.queries.context import QueryContext
from ledger.store.index_keys import derive_key
from ledger.store.journal import Append, Change
from ledger.wire.topics import TOPICS
from projections.engine.registration import register
from projections.read_models.audit_index import AUDIT_INDEX
from tests.projections.corruption import Record, store_record
from tests.projections.histories import ACCOUNT, Author, catch_up, open_engine, run_story
from tests.projections.history_commands import COMMANDS
from tests.projections.queries import open_queries

Row = dict[str, Any]

_SELECT_LOG = """
SELECT notification_id AS position, originator_id AS object, topic, account, livemode, actor,
       request_id AS request, idempotency_key, customer, charge, payment_intent,
       extract(epoch FROM recorded_at)::float8 AS time
FROM ledger.events ORDER BY notification_id
"""
AUDITOR = Auditor(ACCOUNT, False, "key_test")
PATTERNS = ("dispute.*", "customer.created", "charge.*", "c*", "*", "resource.deleted", "past_event.imported")
ACTORS = ("key_test", "key_other", "cli", "key_nobody")
STATES = ("complete", "behind", "parked", "many parked", "no live generation", "rebuilt beside")
REFERENCES = ("customer", "charge", "payment_intent")


async def write_log(author: Author) -> None:
    """A log of all kinds of events, by several actors, two accounts and both modes."""
    causes = itertools.cycle(
        Cause(account, livemode, actor, request, key)
        for account, livemode, actor, request, key in (
            (ACCOUNT, False, "key_test", "req_1", "key-1"),
            (ACCOUNT, False, "key_other", "req_2", None),
            (ACCOUNT, False, None, None, None),
            ("acct_other", False, "key_test", "req_1", "key-1"),
            (ACCOUNT, False, "cli", "req_3", "key-2"),
            (ACCOUNT, True, "key_test", "req_4", "key-1"),
        )
    )
    append = author.store.journal.append

    async def append_by_another(command: Append) -> int:
        # What is appended together stays together: the changes of one command have one cause.
        changes: list[Change] = list(command.changes)
        return await append(Append(next(causes), changes))

    author.store.journal.append = append_by_another  # type: ignore[method-assign]
    first_commands = ("create_customer", "create_charge", "open_dispute", "create_endpoint")
    for number in range(4):
        for command in (*first_commands, *sorted(COMMANDS)):
            await author.run_command(command, number, number + 1)
        await author.advance_clock(days=0.001)


async def bring_into_state(dsn: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring the audit index into one of STATES."""
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        if state == "no live generation":
            return
        if "parked" in state:
            for position in (3, 5, 17):
                await store_record(dsn, position, Record(None, b"?"))
        async with open_engine(dsn, projections=[AUDIT_INDEX], batch_max=19) as engine:
            await engine.advance()
            if state == "behind":
                return
        await catch_up(dsn, projections=[AUDIT_INDEX])
        if state == "rebuilt beside":
            await register(conn, AUDIT_INDEX, 2)
            async with open_engine(dsn, projections=[AUDIT_INDEX], batch_max=7) as engine:
                await engine.advance()
        if "parked" in state:
            cur = await conn.execute("SELECT count(*) FROM projections.parked")
            assert (await cur.fetchone() or (0,))[0] > 1
        if state == "many parked":
            monkeypatch.setattr(pages, "PARKED_STREAMS_MAX", 1)


def is_match(row: Row, wanted: dict[str, Any]) -> bool:
    """Whether the row of the log satisfies all filters: the plain definition of the search."""
    if (row["account"], row["livemode"]) != (AUDITOR.account, AUDITOR.livemode):
        return False
    for name, value in wanted.items():
        if name in REFERENCES:
            if value not in (row[name], row["object"]):
                return False
        elif name == "types":
            if not any(_fits(pattern, row["topic"]) for pattern in value):
                return False
        elif name in ("position", "time"):
            if not all(_compare(comparison, row[name], bound) for comparison, bound in value.items()):
                return False
        elif row[name] != value:
            return False
    return True


def _fits(pattern: str, topic: str) -> bool:
    return topic.startswith(pattern[:-1]) if pattern.endswith("*") else topic == pattern


def _compare(comparison: str, value: Any, bound: Any) -> bool:
    compare: dict[str, Callable[[float, float], bool]] = {
        "gt": float.__gt__, "gte": float.__ge__, "lt": float.__lt__, "lte": float.__le__
    }  # fmt: skip
    return compare[comparison](float(value), float(bound))


async def search_all(
    queries: QueryContext, filters: LogFilters, *, limit: int, descending: bool, examined_max: int
) -> list[LogEntry]:
    """The entries of all pages."""
    entries: list[LogEntry] = []
    after: int | None = None
    while True:
        page = await search_log(
            queries, AUDITOR, filters,
            limit=limit, starting_after=after, descending=descending, examined_max=examined_max,
        )  # fmt: skip
        assert len(page.entries) <= limit
        entries += page.entries
        if page.next_position is None:
            return entries
        assert after is None or (page.next_position < after) == descending
        after = page.next_position


@st.composite
def searches(draw: st.DrawFn, rows: list[Row]) -> dict[str, Any]:
    """Any combination of filters, with values of one event of the log, so that some find something."""
    row = draw(st.sampled_from(rows))
    other = draw(st.sampled_from(rows))
    values: dict[str, Any] = {
        name: row[name] for name in ("request", "idempotency_key", "object") if row[name] is not None
    }
    values["actor"] = row["actor"] or draw(st.sampled_from(ACTORS))
    for name in REFERENCES:
        values[name] = row[name] or row["object"]
    values["types"] = [row["topic"], *draw(st.lists(st.sampled_from((*PATTERNS, *TOPICS)), max_size=2))]
    comparison, opposite = draw(st.sampled_from((("gt", "lte"), ("gte", "lt"), ("gte", "lte"))))
    for name in ("position", "time"):
        first, last = sorted((row[name], other[name]))
        values[name] = draw(
            st.sampled_from(({comparison: first}, {opposite: last}, {comparison: first, opposite: last}))
        )
    names = draw(st.sets(st.sampled_from(sorted(values)), max_size=5))
    return {name: values[name] for name in names}


def to_filters(wanted: dict[str, Any]) -> LogFilters:
    """The filters as a caller writes them."""
    times = {comparison: f"{at:.6f}" for comparison, at in wanted.get("time", {}).items()}
    return LogFilters(**{**wanted, "time": times})


@pytest.mark.parametrize("state", STATES)
def test_any_search_equals_a_plain_filter_over_the_log(
    dsn: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(author: Author) -> None:
        await write_log(author)
        await bring_into_state(dsn, state, monkeypatch)
        async with open_queries(author) as queries, open_connection(dsn, "ledger_api", name="test") as conn:
            rows = await load_log(conn)
            assert len(rows) > 60
            cases = _draw_cases(rows, count=80)
            found_something = 0
            for number, wanted in enumerate(cases):
                descending, limit = number % 2 == 0, (3, 100)[number % 3 == 0]
                expected = [row["position"] for row in rows if is_match(row, wanted)]
                found = await search_all(
                    queries, to_filters(wanted),
                    limit=limit, descending=descending, examined_max=(4, 1000)[number % 4 == 0],
                )  # fmt: skip
                positions = [entry.position for entry in found]
                assert positions == (expected[::-1] if descending else expected), (wanted, limit)
                found_something += bool(expected)
            assert found_something > 25

    run_story(dsn, story)


async def load_log(conn: Conn) -> list[Row]:
    """The whole log, oldest first."""
    cur = await conn.execute(_SELECT_LOG)
    assert cur.description is not None
    names = [column.name for column in cur.description]
    return [dict(zip(names, row, strict=True)) for row in await cur.fetchall()]


def _draw_cases(rows: list[Row], count: int) -> list[dict[str, Any]]:
    """So many different searches: the same ones every time."""
    cases: list[dict[str, Any]] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(searches(rows))
    def collect(wanted: dict[str, Any]) -> None:
        cases.append(wanted)

    collect()
    return cases


def test_what_the_index_says_of_an_event_is_compared_with_the_log(dsn: str) -> None:
    async def story(author: Author) -> None:
        other = ("key_other",)
        for _ in range(3):
            await author.create_customer(email="jenny@example.com")
        await catch_up(dsn, projections=[AUDIT_INDEX])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute(
                "UPDATE projections.audit_keys SET by_actor = %s, by_actor_and_topic = %s WHERE id = 2",
                (derive_key(ACCOUNT, False, *other), derive_key(ACCOUNT, False, *other, "customer.created")),
            )
        async with open_queries(author) as queries:
            for filters in (
                LogFilters(actor="key_other"),
                LogFilters(actor="key_other", types=["customer.*"]),
            ):
                assert (await search_log(queries, AUDITOR, filters)).entries == []
            everything = await search_all(queries, LogFilters(), limit=2, descending=True, examined_max=1000)
            assert [entry.position for entry in everything] == [3, 2, 1]

    run_story(dsn, story)

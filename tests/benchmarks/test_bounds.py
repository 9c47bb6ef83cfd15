"""The bounds that are printed beside the goals: what they do and what they compute."""

from __future__ import annotations

import psycopg
import pytest

from benchmarks.append import build_bound_figure
from benchmarks.bounds import BARE, INSERT, bound_by_insert, build_bound_figures
from benchmarks.load import Request
from benchmarks.service import run_yardstick
from benchmarks.yardsticks.bare_app import DSN

POSTS = 3


def test_the_bare_group_commit_stores_an_event_and_a_reply_for_each_post(dsn: str) -> None:
    with run_yardstick("bare_app:app", {DSN: dsn}) as port:
        for _ in range(POSTS):
            Request(port, "POST", "/v1/customer_sessions", form="customer=cus_1").send()
        with psycopg.connect(dsn) as conn:
            counts = conn.execute(
                "SELECT (SELECT count(*) FROM ledger.events), (SELECT count(*) FROM ledger.replies)"
            ).fetchone()
    assert counts == (POSTS, POSTS)


def test_an_insert_after_a_form_takes_the_time_of_both() -> None:
    assert bound_by_insert([6000.0, 1000.0], [3000.0, 1000.0]) == pytest.approx([2000.0, 500.0])


def test_the_insert_bounds_one_connection_only() -> None:
    rates = {"form": [1000.0], BARE: [800.0], INSERT: [1000.0]}
    one = build_bound_figures("g", "POST", [400.0], "form", rates, connections=1)
    assert [(each.yardstick, each.ratio) for each in one] == [("form", 0.8), (BARE, 0.5), ("form", 0.5)]
    more = build_bound_figures("g", "POST", [400.0], "form", rates, connections=16)
    assert [(each.yardstick, each.ratio) for each in more] == [("form", 0.8), (BARE, 0.5)]


def test_callers_who_wait_for_their_commit_are_at_most_all_in_each() -> None:
    bound = build_bound_figure("work", 16, 0.001, [1000.0])
    assert (bound.value, bound.ratio) == (8000.0, 8.0)
    assert "16 callers / (flush of 1000 µs + 1 ms)" in bound.note

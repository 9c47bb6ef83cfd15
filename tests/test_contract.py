"""Each row of the contract's tables that `contract_rows.txt` lists is named by a test."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def test_every_row_of_the_contract_has_a_test(request: pytest.FixtureRequest) -> None:
    listed = [line for line in (TESTS / "contract_rows.txt").read_text().splitlines() if line]
    assert len(listed) == len(set(listed))
    items = request.session.items
    naming = {
        file
        for file in TESTS.rglob("test_*.py")
        if any(sign in file.read_text() for sign in ("mark.contract(", "@rows("))
    }
    missing = naming - {item.path for item in items} - {Path(__file__)}
    if missing:
        pytest.skip(f"needs the whole suite: {min(missing).name} is not part of this run")
    tested = {row for item in items for mark in item.iter_markers("contract") for row in mark.args}
    assert [row for row in listed if row not in tested] == [], "rows that no test names"

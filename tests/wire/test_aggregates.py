"""The registry of aggregates: complete, consistent with the domain modules, and the only list of them."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import ledger.domain
from ledger.accounts import SCOPES
from ledger.domain.aggregate import State
from ledger.store.codec import fold
from ledger.wire.aggregates import (
    AGGREGATES,
    AGGREGATES_BY_STATE,
    LEDGER_OBJECT_TYPES,
    SHARED_OBJECT_TYPES,
    Aggregate,
)
from ledger.wire.event_types import EVENT_TYPES
from ledger.wire.expansion import EXPANDABLE_FIELDS, READ_RESOURCES
from tests.domain.builders import NOW
from tests.domain.histories import HISTORIES

ROOT = Path(__file__).resolve().parents[2]
each_row = pytest.mark.parametrize("row", AGGREGATES, ids=lambda row: row.noun)


def test_every_domain_module_with_events_has_one_row() -> None:
    names = [f"ledger.domain.{module.name}" for module in pkgutil.iter_modules(ledger.domain.__path__)]
    modules = [module for module in map(importlib.import_module, names) if hasattr(module, "EVENTS")]
    assert sorted(row.module.__name__ for row in AGGREGATES) == sorted(module.__name__ for module in modules)


@each_row
def test_a_row_names_the_state_that_its_module_folds(row: Aggregate[Any]) -> None:
    assert get_type_hints(row.module.evolve)["return"] is row.state
    assert row.state.__module__ == row.module.__name__
    assert issubclass(row.state, State)


def test_the_first_part_of_a_topic_tells_the_aggregate() -> None:
    """A release attributes an unknown topic of a later release by it (projections/engine/batch.py)."""
    prefixes = [{event.TOPIC.partition(".")[0] for event in row.module.EVENTS} for row in AGGREGATES]
    assert [len(some) for some in prefixes] == [1] * len(AGGREGATES)
    assert len(set().union(*prefixes)) == len(AGGREGATES)


@each_row
def test_a_row_has_public_events_of_its_own_domain_events_only(row: Aggregate[Any]) -> None:
    assert set(row.public_event_types) <= set(row.module.EVENTS)
    assert row.make_public_event is None or not row.public_event_types
    for event_types in row.public_event_types.values():
        assert callable(event_types) or set(event_types) <= EVENT_TYPES


def test_the_other_tables_have_what_the_rows_say() -> None:
    for row in AGGREGATES:
        if row.object_type is None:
            assert (row.permission, dict(row.expandable_fields)) == (None, {})
            continue
        assert row.object_type in (SHARED_OBJECT_TYPES if row.published_too else LEDGER_OBJECT_TYPES)
        assert EXPANDABLE_FIELDS[row.object_type] is row.expandable_fields
        assert READ_RESOURCES[row.object_type] == (row.permission,)
        assert f"rak_{row.permission}_read" in SCOPES
    nouns = [row.noun for row in AGGREGATES]
    assert len(set(nouns)) == len(nouns)


def test_every_row_renders_its_aggregate() -> None:
    rendered_states = set()
    for events in HISTORIES:
        state = fold(events)
        assert state is not None
        row = AGGREGATES_BY_STATE[type(state)]
        rendered = row.render(state, NOW)
        assert row.object_type in (None, rendered["object"])
        rendered_states.add(type(state))
    assert rendered_states == {row.state for row in AGGREGATES}


def list_imports(file: Path) -> set[str]:
    return {
        name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom)
        for name in (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
    }


def test_no_other_module_lists_all_aggregates() -> None:
    """A second list would have to be kept in step with the registry. That of an export is: it has an order,
    and leaves out quotas, which an import makes by itself."""
    names = {row.module.__name__ for row in AGGREGATES}
    export = ROOT / "ledger/audit/importable/stream.py"
    quota = "ledger.domain.webhook_endpoint_quota"
    assert list_imports(export) & names == names - {quota}
    for file in (*ROOT.glob("ledger/**/*.py"), *ROOT.glob("projections/**/*.py")):
        is_list = file in (ROOT / "ledger/wire/aggregates.py", export)
        assert (len(names & list_imports(file)) > len(names) - 3) == is_list, file

"""Stored events are kept forever: each still loads, and no class changes its shape without a new version."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ledger.domain.event import DomainEvent
from ledger.wire.aggregates import EVENT_CLASSES
from tests.golden.golden_files import (
    CODEC,
    GOLDEN_DIRECTORY,
    golden_file_of,
    make_stored_event,
)

FILES = sorted(GOLDEN_DIRECTORY.glob("*.json"))
CLASSES = EVENT_CLASSES


def read_golden_file(file: Path) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(file.read_text())
    return golden


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_event_that_was_ever_stored_still_loads(file: Path) -> None:
    golden = read_golden_file(file)
    event = CODEC.to_domain_event(make_stored_event(golden))
    assert vars(event) == golden["fields"]
    assert file.name == f"{golden['topic']}.v{golden['class_version']}.json"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.TOPIC)
def test_every_event_class_has_a_golden_file_of_its_version(cls: type[DomainEvent]) -> None:
    assert golden_file_of(cls).exists(), (
        f"run: python -m tests.golden.golden_files  # writes {golden_file_of(cls).name}"
    )


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.TOPIC)
def test_no_event_class_changes_its_shape_without_a_new_version(cls: type[DomainEvent]) -> None:
    golden = read_golden_file(golden_file_of(cls))
    changed = f"the shape of {cls.__name__} changed: raise class_version and add an upcast (golden_files.py)"
    assert {field.name for field in dataclasses.fields(cls)} == set(golden["fields"]), changed
    assert sorted(cls.PERSONAL) == golden["personal"], changed
    event = cls(**golden["fields"])
    assert mask_sealed(CODEC.to_stored_event(event).state) == mask_sealed(golden["state"]), changed


def mask_sealed(state: bytes | str) -> dict[str, Any]:
    """The readable fields, and whether there are encrypted ones: their bytes differ each time."""
    stored: dict[str, Any] = json.loads(state)
    return stored | {"sealed": "sealed" in stored}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden_files_hold_no_personal_data_in_the_clear(file: Path) -> None:
    golden = read_golden_file(file)
    state = json.loads(golden["state"])
    assert set(golden["personal"]).isdisjoint(state)
    sealed = any(
        golden["fields"][name] is not None for name in golden["personal"] if name in golden["fields"]
    )
    assert ("sealed" in state) == sealed


def test_no_topic_of_a_golden_file_lost_its_class() -> None:
    assert {read_golden_file(file)["topic"] for file in FILES} == {cls.TOPIC for cls in CLASSES}

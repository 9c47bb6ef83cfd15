"""What differs between two versions of an object's JSON, and what of it is withheld."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit.differences import (
    NOTHING,
    Difference,
    Views,
    describe_differences,
    find_differences,
)
from ledger.audit.objects import render_views
from ledger.domain.customer import CustomerUpdated
from ledger.domain.event import DomainEvent
from ledger.domain.redaction.documents import REDACTED
from ledger.store.codec import Codec, fold
from tests.domain.builders import NOW
from tests.domain.histories import HISTORIES

names = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, "x", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(names, values, max_size=3)


def compare(before: Any, after: Any) -> list[Difference]:
    return find_differences(Views(before, before), Views(after, after))


def prune(value: Any) -> Any:
    """The value with a null in the place of what has no members: both mean that nothing is there."""
    if isinstance(value, dict):
        members = {name: prune(each) for name, each in value.items()}
        return {name: each for name, each in members.items() if each is not None} or None
    if isinstance(value, list):
        items = [prune(each) for each in value]
        while items and items[-1] is None:
            items.pop()
        return items or None
    return value


def apply(before: Any, differences: list[Difference]) -> Any:
    """`before` with each difference's value in its place."""
    result = copy.deepcopy(before)
    for difference in differences:
        path: list[str | int] = [
            int(part) if part.isdigit() else part for part in difference.path.replace("]", "").split("[")
        ]
        result = _set(result, path, copy.deepcopy(difference.after))
    return result


def _set(container: Any, path: list[str | int], value: Any) -> Any:
    if not path:
        return value
    part, *rest = path
    if isinstance(part, int):
        items = list(container or []) + [None] * (part + 1 - len(container or []))
        items[part] = _set(items[part], rest, value)
        return items
    return {**(container or {}), part: _set((container or {}).get(part), rest, value)}


@given(before=objects, after=objects)
def test_the_differences_lead_from_one_version_to_the_other(before: Any, after: Any) -> None:
    found = compare(before, after)
    result = apply(before, found)
    assert json.dumps(prune(result), sort_keys=True) == json.dumps(prune(after), sort_keys=True)
    assert compare(before, copy.deepcopy(before)) == []
    assert {(each.path, str(each.after), str(each.before)) for each in compare(after, before)} == {
        (each.path, str(each.before), str(each.after)) for each in found
    }


def test_paths_are_in_bracket_form_and_end_at_the_value() -> None:
    before = {
        "id": "x",
        "evidence": {"receipt": "a", "text": None},
        "items": [{"n": 1}],
        "on": 1,
        "gone": "g",
    }
    after = {"id": "x", "evidence": {"receipt": "b", "text": None}, "items": [{"n": 2}, {"n": 3}], "on": True}
    assert compare(before, after) == [
        Difference("evidence[receipt]", "a", "b"),
        Difference("items[0][n]", 1, 2),
        Difference("items[1][n]", None, 3),
        Difference("on", 1, True),
        Difference("gone", "g", None),
    ]
    assert find_differences(NOTHING, Views({"a": {"b": 1}}, {"a": {"b": 1}})) == [Difference("a[b]", None, 1)]


@pytest.mark.parametrize("mark", ["value", "name"])
def test_what_is_withheld_names_nothing_that_is_not_seen(mark: str) -> None:
    personal = {"shop": "Heinzelmann"} if mark == "value" else {"Heinzelmann": "1"}
    whole = {"id": "x", "metadata": personal, "shipping": {"city": "Heinzelmann"}, "status": "new"}
    visible: dict[str, Any] = {"id": "x", "metadata": {}, "shipping": None, "status": "new"}
    after = Views(whole | {"status": "old"}, visible | {"status": "old"})
    assert find_differences(Views({}, {}), after) == [
        Difference("id", None, "x"),
        Difference("metadata", None, None, withheld=True),
        Difference("shipping", None, None, withheld=True),
        Difference("status", None, "old"),
    ]
    changed = Views({**whole, "metadata": {"shop": "b"}, "name": "Heinzelmann"}, visible)
    assert [each.to_json() for each in find_differences(Views(whole, visible), changed)][-1] == {
        "path": "", "before": None, "after": None, "personal_data": True
    }  # fmt: skip


@pytest.mark.parametrize("events", HISTORIES, ids=lambda events: events[-1].TOPIC)
def test_every_aggregate_is_shown_without_personal_data(events: list[DomainEvent]) -> None:
    codec = Codec(b"a key of thirty-two characters!!")
    stored = [codec.to_stored_event(event) for event in events]
    closed_codec = codec.without_personal_data()
    opened = fold(map(codec.to_domain_event, stored))
    closed = fold(map(closed_codec.to_domain_event, stored))
    assert opened == fold(events)
    before, after = NOTHING, render_views(opened, closed, NOW)
    texts = [json.dumps(each.to_json()) for each in find_differences(before, after)]
    for event in events:
        for name in event.PERSONAL:
            assert getattr(closed_codec.to_domain_event(codec.to_stored_event(event)), name) is None
            for text in collect_texts(getattr(event, name)):
                assert not any(f'"after": "{text}"' in each for each in texts), text


def collect_texts(value: Any) -> list[str]:
    """Personal texts that are long enough to be found by chance nowhere else."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in collect_texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in collect_texts(each)]
    return [value] if isinstance(value, str) and "@" in value else []


def test_what_a_redacted_event_changed_is_named_although_both_values_are_redacted() -> None:
    before = {"id": "cus_1", "name": REDACTED, "email": None, "balance": 0, "address": {"city": REDACTED}}
    after = before | {"email": REDACTED, "balance": 5}
    changes = {
        "name": REDACTED,
        "email": REDACTED,
        "balance": 5,
        "address": {"city": REDACTED},
        "metadata": {},
    }
    event = CustomerUpdated(originator_id="cus_1", originator_version=2, at=NOW, changes=changes)
    views = Views(before, before, is_redacted=True), Views(after, after, is_redacted=True)
    assert describe_differences(*views, event) == [
        {"path": "email", "before": None, "after": REDACTED, "redacted": True},
        {"path": "balance", "before": 0, "after": 5},
    ]
    event.__dict__["redaction"] = "redacted"
    assert describe_differences(*views, event)[2:] == [
        {"path": "name", "before": REDACTED, "after": REDACTED, "redacted": True},
        {"path": "address[city]", "before": REDACTED, "after": REDACTED, "redacted": True},
        {"path": "metadata", "before": None, "after": None, "redacted": True},
    ]
    visible = {"id": "cus_1", "name": None}
    closed = Views(before, visible, is_redacted=True), Views(after, visible, is_redacted=True)
    name = next(each for each in describe_differences(*closed, event) if each["path"] == "name")
    assert name == {"path": "name", "before": None, "after": None, "personal_data": True, "redacted": True}


def test_a_text_that_looks_like_a_placeholder_is_none_unless_the_object_is_redacted() -> None:
    views = Views({"name": "Ada"}, {"name": "Ada"}), Views({"name": REDACTED}, {"name": REDACTED})
    assert describe_differences(*views) == [{"path": "name", "before": "Ada", "after": REDACTED}]

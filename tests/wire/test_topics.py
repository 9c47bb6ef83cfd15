"""Types of recorded events as callers name them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.errors import InvalidParameter
from ledger.wire.topics import TOPICS, expand_types

ROOT = Path(__file__).resolve().parents[2]


def test_the_documentation_lists_all_types_and_no_other() -> None:
    section = (ROOT / "docs" / "feed.md").read_text().partition("\n## Types\n")[2]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| ")][1:]
    listed = {family.strip(): re.findall(r"`([^`]+)`", types) for family, types in rows}
    assert sorted(topic for topics in listed.values() for topic in topics) == list(TOPICS)
    for family, topics in listed.items():
        assert {topic.partition(".")[0] for topic in topics} == {family}


def test_a_pattern_means_all_that_begin_so() -> None:
    found = expand_types(["refund.*", "charge.failed"], param="types")
    assert found == frozenset({"refund.created", "refund.updated", "charge.failed"})
    assert expand_types([], param="types") is None
    assert expand_types(["*"], param="types") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dispute.opend", "no type of a recorded event. Did you mean dispute.opened, "),
        ("charge.dispute.closed", "not of recorded ones. Did you mean dispute.appeal_opened, "),
        ("v1.charge.dispute.closed", "a type of public Events, not of recorded ones. Did you mean dispute."),
        ("charge.refund.updated", "not of recorded ones. Did you mean refund.created or refund.updated?"),
        ("", "no type of a recorded event"),
        ("x" * 10_000, "no type of a recorded event"),
    ],
)  # fmt: skip
def test_what_is_no_type_is_refused_with_what_may_be_meant(name: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(message)) as refusal:
        expand_types([name], param="type")
    assert refusal.value.param == "type"
    assert len(str(refusal.value)) < 500

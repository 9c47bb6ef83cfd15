"""The names that stay against the pinned SDK and the OpenAPI document."""

from __future__ import annotations

from ledger.domain.redaction.documents import KEPT_TEXTS, MEMBER_NAMES
from tests.privacy.member_names import MOSTLY_TEXTS, PERSONAL_NUMBERS, format_modules


def test_the_names_are_those_of_the_sdk_and_of_the_own_answers() -> None:
    for file, text in format_modules().items():
        assert file.read_text() == text


def test_a_name_with_a_rule_is_that_of_a_member() -> None:
    assert KEPT_TEXTS.keys() | PERSONAL_NUMBERS | MOSTLY_TEXTS <= MEMBER_NAMES

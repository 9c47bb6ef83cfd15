"""Evidence: the result of a merge, and the limits on it."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import evidence
from ledger.errors import InvalidState, UnknownReference

CHANGES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {}, {}),
    ({}, {"customer_name": "Ada"}, {"customer_name": "Ada"}),
    ({"customer_name": "Ada"}, {"customer_name": "Ada"}, {}),
    ({"customer_name": "Ada"}, {"customer_name": None}, {"customer_name": None}),
    ({}, {"customer_name": None}, {}),
    ({}, {"customer_name": " as sent \n"}, {"customer_name": " as sent \n"}),
    (
        {"enhanced_evidence": {"visa_compliance": {"fee_acknowledged": True}}},
        {"enhanced_evidence": {"mastercard_compliance": {"fee_acknowledged": True}}},
        {
            "enhanced_evidence": {
                "visa_compliance": {"fee_acknowledged": True},
                "mastercard_compliance": {"fee_acknowledged": True},
            }
        },
    ),
    (
        {"enhanced_evidence": {"visa_compliance": {"fee_acknowledged": True}}},
        {"enhanced_evidence": {"visa_compliance": None}},
        {"enhanced_evidence": None},
    ),
    (
        {"enhanced_evidence": {"visa_compliance": {"fee_acknowledged": True}}},
        {"enhanced_evidence": None},
        {"enhanced_evidence": None},
    ),
    (
        {"appeal": {"card": {"reason_for_filing": "new facts"}}},
        {"appeal": {"card": {"reason_for_filing": "others"}}},
        {"appeal": {"card": {"reason_for_filing": "others"}}},
    ),
]


@pytest.mark.parametrize(("staged", "given", "changed"), CHANGES)
def test_only_changed_fields_are_returned(
    staged: dict[str, Any], given: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert evidence.compute_changes(staged, given, {}) == changed
    assert None not in evidence.apply_changes(staged, changed).values()


FULL = dict.fromkeys(sorted(evidence.LONG_TEXT_FIELDS)[:7], "x" * 20_000) | {"customer_name": "x" * 5_000}


def test_all_text_together_has_a_limit_after_the_merge() -> None:
    assert evidence.compute_changes(FULL, {"service_date": "x" * 5_000}, {})
    with pytest.raises(InvalidState) as refused:
        evidence.compute_changes(FULL, {"service_date": "x" * 5_000, "shipping_date": "x"}, {})
    assert refused.value.param == "evidence"
    assert evidence.compute_changes(
        FULL, {"service_date": "x" * 5_000, "shipping_date": "x", "customer_name": "x"}, {}
    )


def test_an_unknown_file_is_refused_where_it_is_named() -> None:
    with pytest.raises(UnknownReference) as refused:
        evidence.compute_changes({}, {"receipt": "file_x"}, {})
    assert (refused.value.code, refused.value.param) == ("resource_missing", "evidence[receipt]")
    assert refused.value.message == "No such file: 'file_x'"
    with pytest.raises(UnknownReference) as refused:
        evidence.compute_changes(
            {}, {"appeal": {"card": {"supporting_files": ["file_1", "file_x"]}}}, {"file_1": 1}
        )
    assert refused.value.param == "evidence[appeal][card][supporting_files][1]"


@pytest.mark.parametrize(("size", "passes"), [(4_500_000, True), (4_750_002, True), (4_799_134, False)])
def test_files_together_have_a_limit(size: int, passes: bool) -> None:
    staged, sizes = {"receipt": "file_1"}, {"file_1": 1_000, "file_2": size - 1_000}
    if passes:
        assert evidence.compute_changes(staged, {"refund_policy": "file_2"}, sizes) == {
            "refund_policy": "file_2"
        }
        return
    with pytest.raises(InvalidState) as refused:
        evidence.compute_changes(staged, {"refund_policy": "file_2"}, sizes)
    assert refused.value.message.startswith("Adding these files would bring")


def test_a_file_used_twice_counts_twice() -> None:
    with pytest.raises(InvalidState):
        evidence.compute_changes({"receipt": "file_1"}, {"refund_policy": "file_1"}, {"file_1": 2_400_000})


TRANSACTION = {
    "customer_purchase_ip": "10.0.0.1",
    "customer_email_address": "a@b.c",
    "product_description": "Hats",
}


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        (
            {},
            [
                "missing_customer_identifiers",
                "missing_disputed_transaction_description",
                "missing_merchandise_or_services",
                "missing_prior_undisputed_transaction_description",
                "missing_prior_undisputed_transactions",
            ],
        ),
        (
            {
                "disputed_transaction": {**TRANSACTION, "merchandise_or_services": "services"},
                "prior_undisputed_transactions": [{**TRANSACTION, "charge": "ch_1"}] * 2,
            },
            [],
        ),
        (
            {
                "disputed_transaction": {**TRANSACTION, "merchandise_or_services": "services"},
                "prior_undisputed_transactions": [{"charge": "ch_1", "product_description": "x"}] * 2,
            },
            ["missing_customer_identifiers"],
        ),
        (
            {
                "disputed_transaction": {**TRANSACTION, "merchandise_or_services": "services"},
                "prior_undisputed_transactions": [{**TRANSACTION, "charge": "ch_1"}],
            },
            ["missing_prior_undisputed_transaction_description", "missing_prior_undisputed_transactions"],
        ),
    ],
)
def test_required_actions_of_compelling_evidence(given: dict[str, Any], lacking: list[str]) -> None:
    staged = {"enhanced_evidence": {"visa_compelling_evidence_3": given}}
    assert evidence.list_missing_compelling_evidence(staged) == lacking


def test_field_names_are_the_contracts_27() -> None:
    assert len(evidence.LONG_TEXT_FIELDS | evidence.SHORT_TEXT_FIELDS | evidence.FILE_FIELDS) == 27

"""Rows are kept across releases: what one release wrote must equal what the next one makes of the log."""

from __future__ import annotations

import json

import msgspec
import pytest

from ledger.store.codec import evolve
from projections.projection import Projection
from projections.read_models.catalog import PROJECTIONS
from tests.golden.golden_files import CODEC, GOLDEN_DIRECTORY, make_stored_event

LISTS = [each for each in PROJECTIONS if "state" in [column.name for column in each.columns]]

MEMBERS = {
    ("customers", 1): (
        "account address balance business_name created default_source deleted description email id "
        "individual_name invoice_prefix invoice_settings livemode metadata name next_invoice_sequence "
        "phone preferred_locales shipping sources tax_exempt version"
    ),
    ("charges", 1): (
        "account amount amount_captured amount_refunded balance_transaction billing_details captured "
        "card created currency customer description disputes expired failure_code failure_message "
        "fraud_report id livemode metadata outcome payment_intent payment_method_details "
        "receipt_email references refunds shipping statement_descriptor statement_descriptor_suffix "
        "status transfer_group version"
    ),
    ("disputes", 1): (
        "account amount balance_transactions brand case_type charge created currency customer due_by "
        "eligibility evidence id intended_submission_method livemode metadata method "
        "network_reason_code past_due payment_intent reason references refundable status "
        "submission_count version"
    ),
    ("refunds", 1): (
        "account amount balance_transaction charge created currency customer id livemode metadata "
        "method payment_intent payment_method reason status version"
    ),
    ("payment_intents", 1): (
        "account amount amount_received automatic_payment_methods canceled_at cancellation_reason "
        "capture_method card confirmation_method created currency customer description failed_card id "
        "last_payment_error latest_charge livemode metadata receipt_email shipping "
        "statement_descriptor statement_descriptor_suffix status transfer_group version"
    ),
    ("files", 1): ("account created digest filename id links livemode pages purpose size type version"),
    ("file_links", 1): ("account created expires_at file id livemode metadata version"),
    ("webhook_endpoints", 1): (
        "account api_version connect created deleted description disabled enabled_events id livemode "
        "metadata url version"
    ),
    ("redaction_jobs", 1): (
        "account cancelable counts created ended_at first_requested_at id livemode objects reached reason "
        "requested_at requested_by status subjects validated_upto validation_behavior validation_errors "
        "version"
    ),
    ("legal_holds", 1): (
        "account created id livemode object_id object_type placed_at placed_by reason release_reason "
        "released_at released_by version"
    ),
    ("resources", 1): ("account deleted event_type id livemode object published_at type version"),
    ("resources", 2): ("account deleted event_type id livemode object published_at type version"),
}
"""By projection and shape: the members of `state` in the row of a new object."""


def read_members(projection: Projection) -> str:
    """The members of the state that the first version of the aggregate's first event makes."""
    first_topic = projection.aggregates[0].EVENTS[0].TOPIC
    golden = json.loads((GOLDEN_DIRECTORY / f"{first_topic}.v1.json").read_text())
    state = evolve(None, CODEC.to_domain_event(make_stored_event(golden)))
    return " ".join(sorted(msgspec.json.decode(msgspec.json.encode(state))))


@pytest.mark.parametrize("projection", LISTS, ids=lambda projection: projection.name)
def test_rows_get_no_other_members_without_a_new_shape(projection: Projection) -> None:
    assert read_members(projection) == MEMBERS.get((projection.name, projection.shape)), (
        f"after an upgrade all rows of {projection.name} would differ from a replay of the log: leave a new "
        "member out (msgspec.UNSET) where it does not apply, or raise `shape` (docs/rebuilding.md)"
    )

"""Evidence of a dispute: its fields, how an update merges into staged evidence, and the limits on the whole.

Evidence is a dict of the fields that are set. In an update an absent field stays unchanged, and None unsets
it. Limits on a single field are in its parameter table (`wire/tables/disputes`). Source: contract §2.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ledger.errors import InvalidState, UnknownReference

LONG_TEXT_FIELDS = frozenset(
    {
        "access_activity_log",
        "cancellation_policy_disclosure",
        "cancellation_rebuttal",
        "duplicate_charge_explanation",
        "product_description",
        "refund_policy_disclosure",
        "refund_refusal_explanation",
        "uncategorized_text",
    }
)
SHORT_TEXT_FIELDS = frozenset(
    {
        "billing_address",
        "customer_email_address",
        "customer_name",
        "customer_purchase_ip",
        "duplicate_charge_id",
        "service_date",
        "shipping_address",
        "shipping_carrier",
        "shipping_date",
        "shipping_tracking_number",
    }
)
FILE_FIELDS = frozenset(
    {
        "cancellation_policy",
        "customer_communication",
        "customer_signature",
        "duplicate_charge_documentation",
        "receipt",
        "refund_policy",
        "service_documentation",
        "shipping_documentation",
        "uncategorized_file",
    }
)
TOTAL_TEXT_LENGTH_MAX = 150_000
# Stripe's exact limit is unknown: it accepted 4,750,002 bytes and refused 4,799,134.
TOTAL_FILE_BYTES_MAX = 4_775_000

_TEXT_FIELDS = LONG_TEXT_FIELDS | SHORT_TEXT_FIELDS
_COMPELLING_EVIDENCE_3 = "visa_compelling_evidence_3"
_PRIOR_TRANSACTIONS_MIN = 2
_DEVICE_IDENTIFIERS = ("customer_device_fingerprint", "customer_device_id", "customer_purchase_ip")
_IDENTIFIERS = (*_DEVICE_IDENTIFIERS, "customer_account_id", "customer_email_address", "shipping_address")


def compute_changes(
    staged: Mapping[str, Any], patch: Mapping[str, Any], file_bytes: Mapping[str, int]
) -> dict[str, Any]:
    """The changed fields with their complete new values, None for an unset field; {} if nothing changes.

    `staged` is the current evidence, `patch` the parameters. `file_bytes` has the size by id of each file
    named in either that exists and may be evidence. Raises UnknownReference for another file, InvalidState,
    param `evidence`, if all texts or all files together exceed their limit.
    """
    changes: dict[str, Any] = {}
    for name, value in patch.items():
        if name in ("enhanced_evidence", "appeal"):
            value = _merge_hashes(staged.get(name), value)
        if staged.get(name) != value:
            changes[name] = value
    after = apply_changes(staged, changes)
    if changes.keys() & _TEXT_FIELDS:
        length = sum(len(value) for name, value in after.items() if name in _TEXT_FIELDS)
        if length > TOTAL_TEXT_LENGTH_MAX:
            text = f"All evidence text must be at most {TOTAL_TEXT_LENGTH_MAX} characters, not {length}."
            raise InvalidState(text, param="evidence")
    if changes.keys() & FILE_FIELDS or "appeal" in changes:
        total = 0
        for param, file_id in list_files(after):
            if file_id not in file_bytes:
                raise UnknownReference("file", file_id, param=param)
            total += file_bytes[file_id]
        if total > TOTAL_FILE_BYTES_MAX:
            text = "Adding these files would bring the total evidence size over the 5 MB maximum."
            raise InvalidState(text, param="evidence")
    return changes


def apply_changes(staged: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Evidence after the `changes` of `compute_changes`; None, in an erased event, changes nothing."""
    after = {**staged, **(changes or {})}
    return {name: value for name, value in after.items() if value is not None}


def check_without_appeal(
    staged: Mapping[str, Any], patch: Mapping[str, Any], file_bytes: Mapping[str, int]
) -> None:
    """Raises InvalidState, param `evidence[appeal]`, if `patch` changes the evidence of an appeal: it is
    accepted only while the network waits for an appeal (contract §3.2). Raises UnknownReference first for a
    file in it that does not exist; `file_bytes` as in `compute_changes`."""
    if "appeal" in patch and patch["appeal"] != staged.get("appeal"):
        for param, file_id in list_files({"appeal": patch["appeal"]}):
            if file_id not in file_bytes:
                raise UnknownReference("file", file_id, param=param)
        text = "evidence[appeal] is accepted only while the status of the dispute is appeal_needs_response."
        raise InvalidState(text, param="evidence[appeal]")


def check_appeal_alone(changes: Mapping[str, Any]) -> None:
    """Raises InvalidState, param `evidence[x]`, if `changes` has other evidence than that of the appeal."""
    name = next((name for name in changes if name != "appeal"), None)
    if name is not None:
        param = f"evidence[{name}]"
        text = f"{param} cannot change while the status of the dispute is appeal_needs_response."
        raise InvalidState(text, param=param)


def has_appeal(evidence: Mapping[str, Any]) -> bool:
    """Whether `evidence[appeal]` has any content."""
    return any(((evidence.get("appeal") or {}).get("card") or {}).values())


def list_files(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameter name and id of each file in `evidence`; a file used twice is listed twice."""
    for name, value in evidence.items():
        if name in FILE_FIELDS and value is not None:
            yield f"evidence[{name}]", value
    card = (evidence.get("appeal") or {}).get("card") or {}
    for index, file_id in enumerate(card.get("supporting_files") or []):
        yield f"evidence[appeal][card][supporting_files][{index}]", file_id


def is_fee_acknowledged(evidence: Mapping[str, Any], program: str) -> bool:
    """Whether the fee of `visa_compliance` or `mastercard_compliance` has been acknowledged."""
    program_evidence = (evidence.get("enhanced_evidence") or {}).get(program) or {}
    return program_evidence.get("fee_acknowledged") is True


def list_missing_compelling_evidence(evidence: Mapping[str, Any]) -> list[str]:
    """The `required_actions` that remain until the evidence qualifies for Visa Compelling Evidence 3.0.

    Visa requires two earlier, undisputed transactions that share at least two identifiers with the disputed
    one; at least one of the two must identify a device or an IP address. This function checks
    that the identifiers are present; the network decides whether they match. Source: contract §2.2 and
    https://docs.stripe.com/disputes/api/visa-ce3.
    """
    compelling = (evidence.get("enhanced_evidence") or {}).get(_COMPELLING_EVIDENCE_3) or {}
    disputed = compelling.get("disputed_transaction") or {}
    priors = compelling.get("prior_undisputed_transactions") or []
    required_actions = []
    if not _has_identifiers(disputed) or not all(map(_has_identifiers, priors)):
        required_actions.append("missing_customer_identifiers")
    if not disputed.get("product_description"):
        required_actions.append("missing_disputed_transaction_description")
    if not disputed.get("merchandise_or_services"):
        required_actions.append("missing_merchandise_or_services")
    priors_with_description = [prior for prior in priors if prior.get("product_description")]
    if len(priors_with_description) < _PRIOR_TRANSACTIONS_MIN:
        required_actions.append("missing_prior_undisputed_transaction_description")
    if len(priors) < _PRIOR_TRANSACTIONS_MIN:
        required_actions.append("missing_prior_undisputed_transactions")
    return required_actions


def _has_identifiers(transaction: Mapping[str, Any]) -> bool:
    identifiers = [name for name in _IDENTIFIERS if transaction.get(name)]
    return len(identifiers) >= 2 and any(name in _DEVICE_IDENTIFIERS for name in identifiers)


def _merge_hashes(
    current: Mapping[str, Any] | None, patch: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Merges hashes member by member at every depth. Unlike `merge_patch.merge_hash`, an empty result is
    None: evidence holds only what is set."""
    if patch is None:
        return None
    after = dict(current or {})
    for name, value in patch.items():
        if isinstance(value, Mapping):
            value = _merge_hashes(after.get(name), value)
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    return after or None

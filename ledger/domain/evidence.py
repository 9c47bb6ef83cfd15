"""Evidence of a dispute: its fields, how a change merges into what is staged, and what holds after the merge.

Evidence is a plain dict of the fields that are set. Given evidence follows the house rule: absent is
unchanged, None unsets. What can be said of one field by itself is the parameter table's (contract 2.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ledger.errors import StateForbids, UnknownReference

LONG_TEXTS = frozenset(
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
SHORT_TEXTS = frozenset(
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
FILES = frozenset(
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
ALL_TEXT_LENGTH_MAX = 150_000
# Seen at Stripe: 4,750,002 bytes pass, 4,799,134 do not.
ALL_FILES_BYTES_MAX = 4_775_000

_TEXTS = LONG_TEXTS | SHORT_TEXTS
_CE3 = "visa_compelling_evidence_3"
_PRIOR_TRANSACTIONS = 2
_DEVICE_IDENTIFIERS = ("customer_device_fingerprint", "customer_device_id", "customer_purchase_ip")
_IDENTIFIERS = (*_DEVICE_IDENTIFIERS, "customer_account_id", "customer_email_address", "shipping_address")


def changes(
    staged: Mapping[str, Any], given: Mapping[str, Any], file_bytes: Mapping[str, int]
) -> dict[str, Any]:
    """Field by changed field, its whole new value, None where it is unset now; {} if nothing changes.

    `file_bytes` has the size of every file named in `staged` or `given` that exists and may be evidence.
    Raises for an unknown file, or when texts or files together would be too much.
    """
    changed: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("enhanced_evidence", "appeal"):
            value = _merged(staged.get(name), value)
        if staged.get(name) != value:
            changed[name] = value
    after = merged(staged, changed)
    if changed.keys() & _TEXTS:
        length = sum(len(value) for name, value in after.items() if name in _TEXTS)
        if length > ALL_TEXT_LENGTH_MAX:
            text = f"All evidence text must be at most {ALL_TEXT_LENGTH_MAX} characters, not {length}."
            raise StateForbids(text, param="evidence")
    if changed.keys() & FILES or "appeal" in changed:
        total = 0
        for param, file in files(after):
            if file not in file_bytes:
                raise UnknownReference("file", file, param=param)
            total += file_bytes[file]
        if total > ALL_FILES_BYTES_MAX:
            text = "Adding these files would bring the total evidence size over the 5 MB maximum."
            raise StateForbids(text, param="evidence")
    return changed


def merged(staged: Mapping[str, Any], changed: Mapping[str, Any] | None) -> dict[str, Any]:
    """Evidence after what `changes` told; `changed` None, an erased one, changes nothing."""
    after = {**staged, **(changed or {})}
    return {name: value for name, value in after.items() if value is not None}


def appeals(evidence: Mapping[str, Any]) -> bool:
    """Whether it says anything for an appeal."""
    return any(((evidence.get("appeal") or {}).get("card") or {}).values())


def files(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameter name and id of each file in `evidence`; one used twice comes twice."""
    for name, value in evidence.items():
        if name in FILES and value is not None:
            yield f"evidence[{name}]", value
    card = (evidence.get("appeal") or {}).get("card") or {}
    for index, file in enumerate(card.get("supporting_files") or []):
        yield f"evidence[appeal][card][supporting_files][{index}]", file


def fee_acknowledged(evidence: Mapping[str, Any], program: str) -> bool:
    """Whether the fee of `visa_compliance` or `mastercard_compliance` has been acknowledged."""
    stated = (evidence.get("enhanced_evidence") or {}).get(program) or {}
    return stated.get("fee_acknowledged") is True


def compelling_evidence_lacks(evidence: Mapping[str, Any]) -> list[str]:
    """The `required_actions` left before Visa Compelling Evidence 3.0 qualifies.

    Visa asks for two prior transactions that share at least two identifiers with the disputed one, one
    of them of a device or an address in the network.
    """
    compelling = (evidence.get("enhanced_evidence") or {}).get(_CE3) or {}
    disputed = compelling.get("disputed_transaction") or {}
    priors = compelling.get("prior_undisputed_transactions") or []
    lacking = []
    if not _identified(disputed) or not all(map(_identified, priors)):
        lacking.append("missing_customer_identifiers")
    if not disputed.get("product_description"):
        lacking.append("missing_disputed_transaction_description")
    if not disputed.get("merchandise_or_services"):
        lacking.append("missing_merchandise_or_services")
    described = [prior for prior in priors if prior.get("product_description")]
    if len(described) < _PRIOR_TRANSACTIONS:
        lacking.append("missing_prior_undisputed_transaction_description")
    if len(priors) < _PRIOR_TRANSACTIONS:
        lacking.append("missing_prior_undisputed_transactions")
    return lacking


def _identified(transaction: Mapping[str, Any]) -> bool:
    present = [name for name in _IDENTIFIERS if transaction.get(name)]
    return len(present) >= 2 and any(name in _DEVICE_IDENTIFIERS for name in present)


def _merged(staged: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Hashes merge member by member at every depth; what is empty after it is unset."""
    if given is None:
        return None
    after = dict(staged or {})
    for name, value in given.items():
        if isinstance(value, Mapping):
            value = _merged(after.get(name), value)
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    return after or None

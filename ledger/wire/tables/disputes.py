"""The parameters of the operations on disputes (contract §2.2).

Files are ids here; the command checks that a file exists and may be evidence. It also checks the limit on
all texts together, which applies after the merge into the staged evidence.
"""

from __future__ import annotations

from ledger.domain.evidence import FILE_FIELDS, LONG_TEXT_FIELDS, SHORT_TEXT_FIELDS
from ledger.wire.parameters import EXPAND, PAGINATION, Array, Hash, Metadata, ParameterTable, TimestampFilter
from ledger.wire.scalars import Boolean, Choice, Parameter, Text
from ledger.wire.tables.address import ADDRESS

LONG_TEXT_LENGTH_MAX = 20_000
SHORT_TEXT_LENGTH_MAX = 5_000
PRIOR_TRANSACTIONS_MAX = 2
SUPPORTING_FILES_MAX = 50
SUBMISSION_METHODS = ("manual", "prefer_manual", "prefer_smart_disputes", "smart_disputes")
DEVICE_FINGERPRINT_LENGTH_MIN = 20
DEVICE_ID_LENGTH_MIN = 15

_EVIDENCE_TRANSACTION: dict[str, Parameter] = {
    "customer_account_id": Text(unsettable=True, description="Id of the customer's account with you."),
    "customer_device_fingerprint": Text(
        unsettable=True,
        length_min=DEVICE_FINGERPRINT_LENGTH_MIN,
        description="Fingerprint of the customer's device.",
    ),
    "customer_device_id": Text(
        unsettable=True,
        length_min=DEVICE_ID_LENGTH_MIN,
        description="Serial number of the customer's device.",
    ),
    "customer_email_address": Text(unsettable=True, description="The customer's email address."),
    "customer_purchase_ip": Text(unsettable=True, description="IP address from which the customer bought."),
    "product_description": Text(
        unsettable=True, length_max=LONG_TEXT_LENGTH_MAX, description="What was sold."
    ),
    "shipping_address": Hash(
        ADDRESS, unsettable=True, description="Address to which the goods were shipped."
    ),
}

_COMPLIANCE = Hash(
    {
        "fee_acknowledged": Boolean(
            only_true=True, unsettable=True, description="Acknowledges the network's fee; must be true."
        )
    },
    unsettable=True,
    description="Evidence for a compliance dispute.",
)

_ENHANCED_EVIDENCE = Hash(
    {
        "mastercard_compliance": _COMPLIANCE,
        "visa_compelling_evidence_3": Hash(
            {
                "disputed_transaction": Hash(
                    {
                        **_EVIDENCE_TRANSACTION,
                        "merchandise_or_services": Choice(
                            ("merchandise", "services"),
                            unsettable=True,
                            description="Whether goods or services were sold.",
                        ),
                    },
                    unsettable=True,
                    description="The disputed transaction.",
                ),
                "prior_undisputed_transactions": Array(
                    Hash(
                        {
                            **_EVIDENCE_TRANSACTION,
                            "charge": Text(required=True, description="Id of an earlier, undisputed charge."),
                        }
                    ),
                    items_max=PRIOR_TRANSACTIONS_MAX,
                    unsettable=True,
                    description="Two earlier transactions of the same customer that were not disputed.",
                ),
            },
            unsettable=True,
            description="Evidence for Visa Compelling Evidence 3.0.",
        ),
        "visa_compliance": _COMPLIANCE,
    },
    unsettable=True,
    description="Evidence for programs of the card networks.",
)

_APPEAL = Hash(
    {
        "card": Hash(
            {
                "reason_for_filing": Text(
                    unsettable=True, length_max=LONG_TEXT_LENGTH_MAX, description="The reason for the appeal."
                ),
                "supporting_files": Array(
                    Text(), items_max=SUPPORTING_FILES_MAX, unsettable=True, description="Ids of files."
                ),
            },
            unsettable=True,
            description="The appeal of a card dispute.",
        )
    },
    unsettable=True,
    description="Evidence for an appeal.",
)


def _make_evidence_text(length_max: int) -> Text:
    return Text(unsettable=True, length_max=length_max)


EVIDENCE: dict[str, Parameter] = {
    **{name: _make_evidence_text(LONG_TEXT_LENGTH_MAX) for name in sorted(LONG_TEXT_FIELDS)},
    **{name: _make_evidence_text(SHORT_TEXT_LENGTH_MAX) for name in sorted(SHORT_TEXT_FIELDS)},
    **{
        name: Text(unsettable=True, description="Id of a file of purpose dispute_evidence.")
        for name in sorted(FILE_FIELDS)
    },
    "appeal": _APPEAL,
    "enhanced_evidence": _ENHANCED_EVIDENCE,
}

UPDATE = ParameterTable(
    {
        "evidence": Hash(
            EVIDENCE,
            description="Evidence to stage: a field replaces the staged value, an empty value removes it.",
        ),
        "expand": EXPAND,
        "intended_submission_method": Choice(
            SUBMISSION_METHODS,
            unsettable=True,
            description="How you intend to respond to the dispute.",
        ),
        "metadata": Metadata(),
        "submit": Boolean(description="False: only stage the evidence. Default: true."),
    }
)

RETRIEVE = ParameterTable({"expand": EXPAND})

CLOSE = ParameterTable({"expand": EXPAND})

LIST = ParameterTable(
    {
        **PAGINATION,
        "charge": Text(description="Only disputes of this charge."),
        "created": TimestampFilter(),
        "payment_intent": Text(description="Only disputes of this payment intent."),
    }
)

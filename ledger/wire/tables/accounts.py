"""The parameters of the operations on accounts (contract §2.11).

What belongs to an account at Stripe and not here (persons, external accounts) lists empty, whatever the
filters.
"""

from __future__ import annotations

from ledger.wire.parameters import EXPAND, PAGINATION, Hash, ParameterTable, TimestampFilter
from ledger.wire.scalars import Boolean, Choice

_ROLES = ("authorizer", "director", "executive", "legal_guardian", "owner", "representative")

RETRIEVE = ParameterTable({"expand": EXPAND})
LIST = ParameterTable({**PAGINATION, "created": TimestampFilter()})
LIST_CAPABILITIES = ParameterTable({"expand": EXPAND})
LIST_EXTERNAL_ACCOUNTS = ParameterTable(
    {**PAGINATION, "object": Choice(("bank_account", "card"), description="Only objects of this type.")}
)
LIST_PERSONS = ParameterTable(
    {
        **PAGINATION,
        "relationship": Hash(
            {role: Boolean(description=f"Whether the person is {role}.") for role in _ROLES},
            description="Only persons with these relations to the account.",
        ),
    }
)

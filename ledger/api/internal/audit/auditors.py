"""Who calls a route of the audit API."""

from __future__ import annotations

from ledger.api.exchange import Exchange
from ledger.audit.auditor import Auditor


def get_auditor(exchange: Exchange) -> Auditor:
    """The caller of a request, whose key has the scope `audit`."""
    cause = exchange.build_cause()
    return Auditor(
        cause.account,
        cause.livemode,
        exchange.key.id,
        shows_personal_data="personal_data" in exchange.key.scopes,
    )

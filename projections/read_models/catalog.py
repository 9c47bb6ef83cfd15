"""The projections of this release: the one list that the engine, rebuilds and operators use.

A new projection is a module beside this one and an entry here; its table comes from a migration.
"""

from __future__ import annotations

from projections.projection import Projection
from projections.read_models.audit_index import AUDIT_INDEX
from projections.read_models.deadlines import DEADLINES
from projections.read_models.dispute_board import DISPUTE_BOARD
from projections.read_models.feed import FEED
from projections.read_models.lists import (
    CHARGES,
    CUSTOMERS,
    DISPUTES,
    FILE_LINKS,
    FILES,
    LEGAL_HOLDS,
    REDACTION_JOBS,
    REFUNDS,
    RESOURCES,
    WEBHOOK_ENDPOINTS,
)
from projections.read_models.payment_intents import PAYMENT_INTENTS
from projections.read_models.payment_methods import PAYMENT_METHODS
from projections.read_models.postings import BALANCE_CHANGES, BALANCE_TRANSACTIONS, POSTINGS

PROJECTIONS: tuple[Projection, ...] = (
    CUSTOMERS,
    CHARGES,
    DISPUTES,
    REFUNDS,
    PAYMENT_INTENTS,
    FILES,
    FILE_LINKS,
    WEBHOOK_ENDPOINTS,
    PAYMENT_METHODS,
    RESOURCES,
    REDACTION_JOBS,
    LEGAL_HOLDS,
    POSTINGS,
    BALANCE_TRANSACTIONS,
    BALANCE_CHANGES,
    DEADLINES,
    DISPUTE_BOARD,
    FEED,
    AUDIT_INDEX,
)
PROJECTIONS_BY_NAME = {projection.name: projection for projection in PROJECTIONS}

"""The parameters that each operation accepts: one `ParameterTable` per operation, named after it.

A table has exactly the names of the operation's params class in stripe-python 16.1.0; a test compares them.
Those that the ledger does not support are `Unsupported`: they are refused, never ignored.
"""

from ledger.wire.tables import (
    accounts,
    balance,
    balance_transactions,
    charges,
    customer_sessions,
    customers,
    disputes,
    elements,
    events,
    file_links,
    files,
    payment_intents,
    payment_methods,
    published,
    redaction_jobs,
    refunds,
    stripe_cli,
    v2_event_destinations,
    v2_events,
    webhook_endpoints,
)

__all__ = [
    "accounts",
    "balance",
    "balance_transactions",
    "charges",
    "customer_sessions",
    "customers",
    "disputes",
    "elements",
    "events",
    "file_links",
    "files",
    "payment_intents",
    "payment_methods",
    "published",
    "redaction_jobs",
    "refunds",
    "stripe_cli",
    "v2_event_destinations",
    "v2_events",
    "webhook_endpoints",
]

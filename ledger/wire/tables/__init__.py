"""What each operation accepts: one `ParameterTable` an operation, named after the operation.

The names in a table are exactly those of the SDK's params class for the operation (stripe-python 16.1.0;
a test compares them); those that are not served are `Unsupported`, so they are refused and never ignored.
"""

from ledger.wire.tables import (
    balance_transactions,
    charges,
    customer_sessions,
    customers,
    disputes,
    elements,
    events,
    file_links,
    files,
    refunds,
    webhook_endpoints,
)

__all__ = [
    "balance_transactions",
    "charges",
    "customer_sessions",
    "customers",
    "disputes",
    "elements",
    "events",
    "file_links",
    "files",
    "refunds",
    "webhook_endpoints",
]

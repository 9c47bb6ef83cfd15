"""`ledger events …`, `ledger trigger` and `ledger listen`: Events for developers."""

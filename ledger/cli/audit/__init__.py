"""`ledger audit`: the audit API on the command line."""

"""`ledger audit export`, `archive`, and the commands that check what they wrote."""

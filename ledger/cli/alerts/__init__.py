"""The commands `ledger alerts …`."""

"""The commands `ledger feed …`."""

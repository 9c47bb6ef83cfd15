"""`ledger webhooks`: look after webhooks on the command line."""

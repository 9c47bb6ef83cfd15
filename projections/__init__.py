"""Read models and the public Event feed, derived from the log and from nothing else.

`ledger` never imports this package: the tables are the contract between them.
"""

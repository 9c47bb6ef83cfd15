"""`ledger erase …` and `ledger verify-erasure`: erasures, their certificates, and exports in the clear."""

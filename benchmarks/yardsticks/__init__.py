"""What our figures are compared with: the stock library, plain FastAPI, another ledger with this protocol."""

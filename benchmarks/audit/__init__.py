"""The audit, measured on one long log: `python -m benchmarks --only audit`."""

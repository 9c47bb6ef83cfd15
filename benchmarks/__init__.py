"""Measures this house against its yardsticks: `python -m benchmarks` (docs/benchmarks.md)."""

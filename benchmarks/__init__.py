"""Measures this service against its yardsticks: `python -m benchmarks` (docs/benchmarks.md)."""

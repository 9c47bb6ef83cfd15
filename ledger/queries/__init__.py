"""What can be asked: single objects folded from the log, lists read from the projections' tables."""

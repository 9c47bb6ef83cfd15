"""Applies the log to the projections, from any number of processes."""

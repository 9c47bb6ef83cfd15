"""Queries: one object folded from the log, lists read from the tables of the projections."""

"""Builds new generations of projections beside the live ones, compares them, and makes the new ones live."""

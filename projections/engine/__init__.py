"""What keeps projections up to date with the log."""

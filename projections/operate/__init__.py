"""What operators do to projections, from a shell and over HTTP."""

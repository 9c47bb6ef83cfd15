"""The destruction of a person's data: takes a redaction job that was run to its end, in steps that are kept."""

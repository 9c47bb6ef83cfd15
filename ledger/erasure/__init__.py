"""Erasure: what is done after a redaction job was run, and what then shows that it was done."""

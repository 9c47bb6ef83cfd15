"""Servers that have the log beside the primary: what they have, and reads from them."""

"""What secrets are made of: random bytes, and keyed hashes."""

"""The internal API under /internal/v1, for other services, auditors and operators."""

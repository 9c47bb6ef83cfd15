"""The routes of the audit API (internal API, section 2)."""

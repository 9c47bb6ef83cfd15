"""What the files of a deployment set."""

from __future__ import annotations

from ledger.config import Settings

KNOWN = {f"LEDGER_{name.upper()}" for name in Settings.model_fields}
"""The names of all settings."""


def get_default(name: str) -> int:
    """The default of a setting that is a number."""
    return int(Settings.model_fields[name].default)

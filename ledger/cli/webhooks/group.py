"""The group `ledger webhooks …`."""

from __future__ import annotations

import typer

from ledger.cli.groups import build_group
from ledger.cli.webhooks.history import add_history_commands
from ledger.cli.webhooks.replays import add_replay_commands
from ledger.cli.webhooks.retries import add_retry_commands
from ledger.cli.webhooks.settings import add_settings_commands
from ledger.cli.webhooks.switch import add_switch_commands


def build_webhooks_group() -> typer.Typer:
    """The group with all its commands."""
    group = build_group(
        "See, retry and replay webhooks; pause and resume them.",
        "ledger webhooks status",
        "ledger webhooks deliveries --state failed",
        "ledger webhooks pause --reason 'a receiver is being moved'",
    )
    add_switch_commands(group)
    add_history_commands(group)
    add_settings_commands(group)
    add_retry_commands(group)
    add_replay_commands(group)
    return group

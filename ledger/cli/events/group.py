"""The group `ledger events …`."""

from __future__ import annotations

import typer

from ledger.cli.events.event_list import add_list_commands
from ledger.cli.events.resend import add_resend_command
from ledger.cli.events.trigger import add_trigger_command
from ledger.cli.groups import build_group


def build_events_group() -> typer.Typer:
    """The group with all its commands."""
    group = build_group(
        "List, show, send again and make Events.",
        "ledger events list --type 'charge.dispute.*'",
        "ledger events trigger charge.dispute.created",
    )
    add_list_commands(group)
    add_resend_command(group)
    add_trigger_command(group, "ledger events trigger")
    return group

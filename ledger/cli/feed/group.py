"""The group `ledger feed …`."""

from __future__ import annotations

import typer

from ledger.cli.feed.publish import add_publish_command
from ledger.cli.feed.read import add_read_command
from ledger.cli.feed.repair import add_repair_commands
from ledger.cli.groups import build_group


def build_feed_group() -> typer.Typer:
    """The group with all its commands."""
    group = build_group(
        "Read the feed by position, and publish it to JetStream.",
        "ledger feed read --after 4700 --limit 10",
        "ledger feed publish --nats nats://127.0.0.1:4222",
        "ledger feed check",
    )
    add_read_command(group)
    add_publish_command(group)
    add_repair_commands(group)
    return group

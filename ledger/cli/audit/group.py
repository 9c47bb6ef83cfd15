"""The group `ledger audit …`: one list of all its commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from ledger.cli.audit import export, export_check, log, tree, verify

COMMANDS: dict[str, Callable[..., None]] = {
    "log": log.show_log,
    "event": log.show_event,
    "export": export.export_log,
    "verify-export": export_check.verify_export_file,
    "checkpoint": tree.print_checkpoint,
    "keys": tree.print_keys,
    "rotate-key": tree.rotate_key,
    "proof": tree.print_proof,
    "verify": verify.verify,
}
"""By name, in the order in which --help shows them."""


def build_group() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(
        help="What happened, how it looked then, and the proof.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
    )
    for name, command in COMMANDS.items():
        group.command(name)(command)
    return group

"""The group `ledger audit …`: one list of all its commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from ledger.cli.audit import (
    accesses,
    export,
    export_check,
    lists,
    log,
    money,
    objects,
    reconcile,
    tree,
    verify,
    witnesses,
)
from ledger.cli.audit.shell import RecordedCommand

COMMANDS: dict[str, Callable[..., None]] = {
    "object": objects.show_object,
    "history": objects.show_history,
    "diff": objects.show_diff,
    "list": lists.list_objects,
    "log": log.show_log,
    "event": log.show_event,
    "export": export.export_log,
    "verify-export": export_check.verify_export_file,
    "trial-balance": money.show_trial_balance,
    "journal": money.show_journal,
    "reconcile": reconcile.reconcile,
    "verify": verify.verify,
    "checkpoint": tree.print_checkpoint,
    "keys": tree.print_keys,
    "rotate-key": tree.rotate_key,
    "proof": tree.print_proof,
    "witnesses": witnesses.print_witnesses,
    "accesses": accesses.list_accesses,
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
        group.command(name, cls=RecordedCommand)(command)
    return group

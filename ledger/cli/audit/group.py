"""The group `ledger audit …`: one list of all its commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from ledger.cli.audit.tree import print_checkpoint, print_keys, print_proof, rotate_key
from ledger.cli.audit.verify import verify
from ledger.cli.audit.witnesses import print_witnesses

COMMANDS: dict[str, Callable[..., None]] = {
    "checkpoint": print_checkpoint,
    "keys": print_keys,
    "rotate-key": rotate_key,
    "proof": print_proof,
    "witnesses": print_witnesses,
    "verify": verify,
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

"""The group `ledger audit …`: one list of all its commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from ledger.cli import groups
from ledger.cli.audit import (
    accesses,
    find,
    lists,
    log,
    money,
    objects,
    reconcile,
    tree,
    verify,
    witnesses,
)
from ledger.cli.audit.exports import archive, check, export
from ledger.cli.audit.shell import RecordedCommand
from ledger.cli.groups import format_examples

_OBJECT = "dp_0352CZ3z1jWpJM7B8upbma"

COMMANDS: dict[str, tuple[Callable[..., None], list[str]]] = {
    "object": (objects.show_object, [f"{_OBJECT} --at 2026-03-01T12:00:00Z"]),
    "history": (objects.show_history, [f"{_OBJECT} --newest-first"]),
    "diff": (objects.show_diff, [f"{_OBJECT} --from 2026-03-01T12:00:00Z"]),
    "list": (
        lists.list_objects,
        ["dispute --at 2026-03-01T12:00:00Z --filter charge=ch_0352I2S0wXTRNVkqM8D9w9"],
    ),
    "log": (log.show_log, ["--type 'dispute.*' --since 2026-03-01T00:00:00Z --limit 20"]),
    "find": (find.find_anything, ["req_0352CZ3z1jWpJM7B8upbma", "jenny@example.com --personal-data"]),
    "event": (log.show_event, ["1042 --json"]),
    "export": (
        export.export_log,
        ["--out march.ndjson --since 2026-03-01T00:00:00Z --until 2026-04-01T00:00:00Z"],
    ),
    "verify-export": (check.verify_export_file, ["march.ndjson --key log.key"]),
    "archive": (archive.write_archive, ["archive-1 --after 0 --before 1000001"]),
    "verify-archive": (archive.verify_archive, ["archive-1 --key log.key"]),
    "trial-balance": (money.show_trial_balance, ["--at 2026-03-31T23:59:59Z --currency usd"]),
    "journal": (money.show_journal, ["--from 2026-03-01T00:00:00Z --ledger-account dispute_fees"]),
    "reconcile": (reconcile.reconcile, ["--json"]),
    "verify": (verify.verify, ["", "--against /mnt/elsewhere/checkpoint"]),
    "checkpoint": (tree.print_checkpoint, ["--out checkpoint", "--status"]),
    "keys": (tree.print_keys, ["--json"]),
    "rotate-key": (
        tree.rotate_key,
        ["--reason 'yearly rotation'", "--new-origin ledger.example.com/after-2026-11"],
    ),
    "proof": (tree.print_proof, ["evt_0352CZ3z1jWpJM7B8upbma --out event.tlog-proof"]),
    "witnesses": (witnesses.print_witnesses, ["--json"]),
    "accesses": (accesses.list_accesses, ["--actor cli --since 2026-03-01T00:00:00Z"]),
}
"""By name, in the order in which --help shows them; with the arguments of examples."""


def build_group() -> typer.Typer:
    """The group of commands."""
    group = groups.build_group(
        "What happened, how it looked then, and the proof.",
        f"ledger audit history {_OBJECT}",
        "ledger audit log --type 'dispute.*' --limit 20",
        "ledger audit verify",
    )
    for name, (command, examples) in COMMANDS.items():
        epilog = format_examples(*(f"ledger audit {name} {example}".rstrip() for example in examples))
        group.command(name, cls=RecordedCommand, epilog=epilog)(command)
    return group

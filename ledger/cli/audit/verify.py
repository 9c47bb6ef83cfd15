"""`ledger audit verify`: compares the log with its Merkle tree and with everything that was signed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ledger.cli.audit.shell import run_on_log
from ledger.cli.groups import JsonOption
from ledger.cli.shell import Deployment, format_count
from ledger.clock import Clock
from ledger.errors import SettingError
from ledger.postgres.connections import Conn
from ledger.tlog.notes import NOTE_BYTES_MAX
from ledger.tree.keys import make_keyring
from ledger.tree.verification import Progress, Verification, verify_log

AgainstOption = Annotated[
    list[Path] | None,
    typer.Option("--against", help="A checkpoint that was kept elsewhere; may be given several times."),
]


def verify(against: AgainstOption = None, as_json: JsonOption = False) -> None:
    """Compare the log with its Merkle tree and all checkpoints.

    Finds what was edited, removed, inserted, swapped or cut. One line for each difference, and the first
    position that differs. Exits with 1 when there is one, and when nothing was sealed yet."""
    result = run_verification({str(file): _read(file) for file in against or ()})
    print(json.dumps(describe(result)) if as_json else "\n".join(_format(result)))
    if result.findings:
        raise typer.Exit(1)


def run_verification(against: dict[str, str]) -> Verification:
    """Verify the log of the configured database.

    Raises SettingError for settings that cannot be used, psycopg.Error when the database fails.
    """
    with _show_progress() as progress:

        async def verify_all(conn: Conn, clock: Clock, deployment: Deployment) -> Verification:
            keyring = make_keyring(deployment.service_keys, deployment.settings)
            return await verify_log(conn, keyring, against=against, progress=progress)

        return run_on_log(verify_all)


def describe(result: Verification) -> dict[str, object]:
    """The result as JSON."""
    first = result.first_difference
    return {
        "verified": not result.findings,
        "origin": result.origin,
        "sealed": result.sealed,
        "unsealed": result.unsealed,
        "checkpoints": result.checkpoints,
        "root": result.root,
        "first_difference": None if first is None else {"after": first[0], "upto": first[1]},
        "findings": [finding._asdict() for finding in result.findings],
    }


def _format(result: Verification) -> Iterator[str]:
    for finding in result.findings:
        yield finding.message
    first = result.first_difference
    if first:
        after, upto = first
        where = f"at position {upto}" if upto == after + 1 else f"after position {after}, up to {upto}"
        yield f"The first difference is {where}."
    if result.findings:
        yield "NOT VERIFIED."
        return
    events, checkpoints = format_count(result.sealed, "event"), format_count(result.checkpoints, "checkpoint")
    yield f"Verified: {events} of the log {result.origin}, against {checkpoints}."
    yield f"Not sealed yet: {result.unsealed}."
    yield f"Root: {result.root}"


def _read(file: Path) -> str:
    try:
        with file.open("rb") as source:
            return source.read(NOTE_BYTES_MAX + 1).decode(errors="replace")
    except OSError as error:
        raise SettingError(f"cannot read {file}: {error.strerror}") from None


@contextmanager
def _show_progress() -> Iterator[Progress]:
    """A progress bar, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("verifying", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

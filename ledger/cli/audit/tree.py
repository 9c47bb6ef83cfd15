"""`ledger audit checkpoint`, `keys`, `rotate-key` and `proof`: the signed tree on the command line."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.audit.tree.proofs import read_proof_file
from ledger.cli.audit.shell import AccountOption, LiveOption, run, run_on_log
from ledger.cli.groups import JsonOption, YesOption, require_consent
from ledger.cli.shell import Deployment, format_time, print_table, run_with_connection
from ledger.clock import Clock
from ledger.config import check_origin
from ledger.errors import SettingError
from ledger.metrics.backlogs import READY_LAG_SECONDS_MAX, SealingLag, read_sealing_lag
from ledger.postgres.connections import Conn
from ledger.tlog.checkpoints import parse_checkpoint
from ledger.tlog.encoding import encode_base64
from ledger.tlog.notes import parse_note
from ledger.tree.keys import list_keys, make_keyring
from ledger.tree.rotation import Rotation, rename_log, rotate_keys
from ledger.tree.storage import TreeHead, read_tree_head

OutOption = Annotated[Path | None, typer.Option("--out", help="Write it to this file, at once and whole.")]


def print_checkpoint(
    out: OutOption = None,
    status: Annotated[
        bool, typer.Option("--status", help="Show how far sealing is; exit 1 if it has stopped.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the newest signed checkpoint of the log."""
    if status and out is not None:
        raise SettingError("--status and --out exclude each other")

    async def read(conn: Conn, clock: Clock) -> tuple[TreeHead, SealingLag]:
        return await read_tree_head(conn), await read_sealing_lag(conn, clock.now())

    if status:  # not recorded: it shows what /readyz shows to anybody, also when nothing can be written
        head, lag = run_with_connection(read)
        _print_status(head, lag, as_json)
        raise typer.Exit(1 if lag.is_stuck(READY_LAG_SECONDS_MAX) else 0)
    head = run_on_log(lambda conn, *_: read_tree_head(conn))
    if not head.note:
        raise SettingError("there is no checkpoint yet: start `ledger serve`, or a worker, which signs them")
    _put(json.dumps(_describe(head)) + "\n" if as_json else head.note, out)


def print_keys(as_json: JsonOption = False) -> None:
    """List the keys that verify checkpoints."""
    keys = run_on_log(lambda conn, *_: list_keys(conn))
    if as_json:
        print(json.dumps([{"key": str(key.verifier), "retired": key.retired_at} for key in keys]))
        return
    rows = [(key.verifier, *map(format_time, (key.created_at, key.retired_at)), key.reason) for key in keys]
    print_table(("key", "created", "retired", "reason"), rows)


def rotate_key(
    reason: Annotated[str, typer.Option(help="Why; it is kept on record, unencrypted.")] = "",
    new_origin: Annotated[
        str | None,
        typer.Option(help="Go on as another log, after a restore to an earlier time."),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sign with a new key from now on; the old one stays listed.

    With --new-origin the log also gets another name, after asking: stop all workers before, and start them
    after."""
    if new_origin is not None:
        try:
            check_origin(new_origin)
        except ValueError as error:
            raise SettingError(f"--new-origin: {error}") from None
        require_consent(
            f"The log goes on as {new_origin}. Its old name and keys sign nothing any more.", yes=yes
        )

    async def rotate(conn: Conn, clock: Clock, deployment: Deployment) -> Rotation:
        keyring = make_keyring(deployment.service_keys, deployment.settings)
        if new_origin is not None:
            return await rename_log(conn, keyring, new_origin, reason, clock.now())
        return await rotate_keys(conn, keyring, reason, clock.now())

    rotation = run_on_log(rotate)
    if as_json:
        described: dict[str, Any] = {
            "retired": [str(key) for key in rotation.retired],
            "current": [str(key) for key in rotation.current],
            "checkpoint": rotation.note,
        }
        print(json.dumps(described))
        return
    for label, keys in (("retired", rotation.retired), ("current", rotation.current)):
        for key in keys:
            print(f"{label}  {key}")
    signers = "both" if new_origin is None else "the current keys alone: it is of a new log"
    print(f"\nThis checkpoint is signed by {signers}. Give it, and the current keys, to those who verify:\n")
    print(rotation.note, end="")


def print_proof(
    record: Annotated[str, typer.Argument(help="A position, or the id of an Event (evt_… or evt_thin_…).")],
    out: OutOption = None,
    account: AccountOption = None,
    live: LiveOption = False,
) -> None:
    """Print a proof file of a record, which is verified offline."""
    text = run(
        lambda queries, auditor: read_proof_file(queries, auditor, record), account=account, livemode=live
    )
    _put(text, out)


def _print_status(head: TreeHead, lag: SealingLag, as_json: bool) -> None:
    stuck = lag.is_stuck(READY_LAG_SECONDS_MAX)
    if as_json:
        print(json.dumps(lag._asdict() | {"sealed_at": head.sealed_at, "stuck": stuck}))
        return
    is_behind = "waits" if lag.is_copy else "sealing"
    state = "stopped" if lag.error else "stuck" if stuck else is_behind if lag.events else "sealed"
    header = ("state", "size", "lag (events)", "lag (s)", "sealed")
    print_table(header, [(state, lag.size, lag.events, f"{lag.seconds:.1f}", format_time(head.sealed_at))])
    if lag.error:
        print(f"{lag.error}: see docs/operations.md, Sealing has stopped")
    if lag.is_copy:
        print("This database is a copy, which signs no checkpoints: see docs/operations.md, Webhooks are off")


def _describe(head: TreeHead) -> dict[str, Any]:
    return {
        "origin": parse_checkpoint(parse_note(head.note).text).origin,
        "size": head.size,
        "root": encode_base64(head.root),
        "sealed_at": head.sealed_at,
        "checkpoint": head.note,
    }


def _put(text: str, out: Path | None) -> None:
    """Print the text, or write the file: whoever reads it sees the old content or all of the new one."""
    if out is None:
        print(text, end="")
        return
    new_file = out.with_name(f"{out.name}.{secrets.token_hex(4)}.new")
    try:
        with new_file.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new_file.replace(out)
    except OSError as error:
        new_file.unlink(missing_ok=True)
        raise SettingError(f"--out: {out} cannot be written: {error.strerror}") from None

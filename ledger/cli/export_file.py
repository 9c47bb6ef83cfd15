"""`ledger export`: writes the objects of an account as `ledger import` takes them.

What it reads is recorded, as every look into the past is (docs/audit/accesses.md), and so is where a file
with personal data is: an erasure writes it again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ledger.audit.auditor import Auditor
from ledger.audit.importable.stream import Summary, begin_export, stream_objects
from ledger.cli.audit.shell import record_as, run
from ledger.cli.shell import format_count, get_shell_user
from ledger.erasure.exports import read_epoch, register_export
from ledger.errors import SettingError
from ledger.postgres.connections import Conn
from ledger.postgres.private_files import open_new_file
from ledger.queries.context import QueryContext

STANDARD_OUTPUT = Path("-")


def run_export(file: Path, account: str | None, *, livemode: bool, unseal: bool, overwrite: bool) -> Summary:
    """Write the objects of `account` into `file` (`-`: standard output), with personal data if `unseal`.

    account  None: the only one that exists

    Raises SettingError for a file or an account that cannot be used, Unavailable, AccessNotRecorded,
    UnreadableRecord; then there is no file.
    """

    path = None if file == STANDARD_OUTPUT else str(file.absolute())

    async def export(context: QueryContext, auditor: Auditor) -> Summary:
        epoch = await context.pool.run_idempotent(read_epoch)
        summary = await begin_export(context)
        progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(), console=Console(stderr=True), disable=not sys.stderr.isatty(),
        )  # fmt: skip
        with _open_target(file, overwrite=overwrite) as target, progress:
            task = progress.add_task("exporting", total=1.0)

            def show(share: float) -> None:
                text = f"{summary.lines.total():,} lines"
                progress.update(task, completed=share, description=text)

            digest, size_bytes = sha256(), 0
            async for content in stream_objects(context, auditor, summary, on_page=show):
                target.write(content)
                digest.update(content)
                size_bytes += len(content)
            if unseal:
                await _register(context, auditor, summary, path, size_bytes, digest.digest(), epoch)
        return summary

    parameters = {"file": file, "account": account, "live": livemode, "unseal": unseal}
    with record_as("export", parameters):
        return run(export, account=account, livemode=livemode, shows_personal_data=unseal)


def describe(summary: Summary) -> list[str]:
    """The export in words: what it has, and what it leaves out."""
    count = format_count(summary.lines.total(), "line")
    texts = [f"{count}, everything up to position {summary.position}."]
    if summary.sealed:
        texts.append(f"Without --unseal, it has no personal data, and leaves out {_list(summary.sealed)}.")
    if summary.unsupported:
        texts.append(f"An import takes no {_list(summary.unsupported, count_first=False)}.")
    if summary.lines["webhook_endpoint"]:
        texts.append("Webhook endpoints are written as disabled, so that a copy sends nothing.")
    return texts


def _list(counts: dict[str, int], *, count_first: bool = True) -> str:
    items = [
        format_count(number, name.removesuffix("s")) if count_first else f"{name} ({number})"
        for name, number in counts.items()
    ]
    return ", ".join(items)


async def _register(
    context: QueryContext,
    auditor: Auditor,
    summary: Summary,
    path: str | None,
    size_bytes: int,
    digest: bytes,
    epoch: int,
) -> None:
    """Record where personal data in the clear is, so that an erasure finds it. Raises SettingError if one was
    requested since `epoch`: then the export may have what is to be erased."""

    async def register(conn: Conn) -> int:
        await register_export(
            conn,
            account=auditor.account,
            livemode=auditor.livemode,
            position=summary.position,
            path=path,
            operator=get_shell_user(),
            size_bytes=size_bytes,
            digest=digest,
        )
        return await read_epoch(conn)

    async with context.pool.connection() as conn:
        if await register(conn) != epoch:
            raise SettingError("somebody was erased while the export was written: export again")


@contextmanager
def _open_target(file: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    if file == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with open_new_file(file, overwrite=overwrite) as (target, _):
        yield target

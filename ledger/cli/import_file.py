"""`ledger import`: imports the lines of an NDJSON file, with a progress bar on a terminal.

It appends through the journal like any other process, whether a service is running or not. Refused lines go
to standard output, one JSON document per line. Importing a file again, after an interruption too, changes
nothing that is already there.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import uvloop
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ledger.accounts import list_accounts
from ledger.api.composition import build_execution, build_queries
from ledger.api.errors import render_error_body
from ledger.call import Cause
from ledger.cli.service.processes import reduce_garbage_collection
from ledger.cli.shell import CLI_ACTOR, choose_account
from ledger.clock import Clock
from ledger.commands.imports.bulk_import import Import
from ledger.config import Settings
from ledger.errors import Forbidden, SettingError
from ledger.ids import new_id
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Pool, open_connection
from ledger.postgres.deployment import open_database
from ledger.service_key import check_database
from ledger.store.store import Store

CHUNK_BYTES = 262_144


class ImportSummary(NamedTuple):
    """How many lines of a file there were, changed something and were refused, and how long it took."""

    line_count: int
    changed_count: int
    refused_count: int
    seconds: float

    @property
    def unchanged_count(self) -> int:
        """The lines that were imported before."""
        return self.line_count - self.changed_count - self.refused_count

    def to_json(self) -> dict[str, object]:
        """The summary as JSON."""
        return {
            "lines": self.line_count,
            "changed": self.changed_count,
            "unchanged": self.unchanged_count,
            "refused": self.refused_count,
            "seconds": round(self.seconds, 3),
        }


def run_import(settings: Settings, file: Path, account: str | None, *, livemode: bool) -> ImportSummary:
    """Import the lines of `file` (`-`: standard input) into `account`; None: into the only account that
    exists.

    Raises SettingError for a file or an account that cannot be used.
    """
    try:
        source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise SettingError(f"cannot read {file}: {error.strerror}") from None
    with source, open_database(settings) as (dsn, configured):
        service_keys = check_database(settings, dsn, configured)
        reduce_garbage_collection()
        size_bytes = None if str(file) == "-" else file.stat().st_size
        return uvloop.run(_run_import(settings, dsn, service_keys, source, size_bytes, account, livemode))


async def _run_import(
    settings: Settings,
    dsn: str,
    service_keys: ServiceKeys,
    source: BinaryIO,
    size_bytes: int | None,
    account: str | None,
    livemode: bool,
) -> ImportSummary:
    store = Store(dsn, service_keys, settings, Clock(movable=settings.test_clock))
    async with open_connection(dsn, "ledger_api", name="import") as conn:
        chosen = await choose_account(conn, account)
        await store.clock.refresh(conn)
    cause = Cause(chosen, livemode, CLI_ACTOR, new_id("req", time.time()), None)
    await store.start()
    pool = Pool(dsn)
    await pool.open()
    queries = build_queries(store, pool, settings)
    importer = Import(
        build_execution(store, queries, settings),
        cause,
        check_account=partial(_check_connected, dsn, cause.account),
        render_error=render_error_body,
    )
    try:
        return await _import_lines(importer, source, size_bytes)
    finally:
        await store.close()
        await queries.pages.close()
        await pool.close()


async def _import_lines(importer: Import, source: BinaryIO, size_bytes: int | None) -> ImportSummary:
    """Import all lines of `source`, which has `size_bytes` if that is known, and print the refused ones."""
    started = time.monotonic()
    lines = changed = refused = 0
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with progress:
        task = progress.add_task("importing", total=size_bytes)
        async for results in importer.run(_read_chunks(source, progress, task)):
            lines += len(results)
            changed += sum(result.changed for result in results)
            refused_lines = [f"{result.to_json()}\n" for result in results if result.refused]
            if refused_lines:
                refused += len(refused_lines)
                print("".join(refused_lines), end="", flush=True)
            rate = lines / (time.monotonic() - started)
            progress.update(task, description=f"{lines:,} lines, {rate:,.0f}/s, {refused:,} refused")
    return ImportSummary(lines, changed, refused, time.monotonic() - started)


async def _read_chunks(source: BinaryIO, progress: Progress, task: TaskID) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
        yield chunk
        progress.advance(task, len(chunk))


async def _check_connected(dsn: str, platform: str, account: str) -> None:
    """Raises Forbidden for an account that is neither `platform` nor connected to it."""
    async with open_connection(dsn, "ledger_api", name="import") as conn:
        if account not in [row[0] for row in await list_accounts(conn, platform)]:
            raise Forbidden(
                f"The account '{account}' is not connected to {platform}.", code="account_invalid"
            )

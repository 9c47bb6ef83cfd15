"""`ledger import`: the lines of a file told to the ledger from a shell, with progress on a terminal.

It appends by the journal like any process, beside a service that runs or not. Refused lines go to standard
output, one JSON a line; what came of it all is said at the end. It is safe to run again after a break.
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
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ledger.accounts import list_accounts
from ledger.api.app import envelope_of, execution_of, terms_of
from ledger.cli.processes import collect_seldom
from ledger.clock import Clock
from ledger.commands.bulk_import import Import
from ledger.config import Settings
from ledger.errors import Forbidden, SettingError
from ledger.files.storage import Contents
from ledger.ids import new_id
from ledger.postgres.connections import check_schema, connected, open_pool
from ledger.postgres.deployment import database
from ledger.store.codec import State
from ledger.store.journal import Cause
from ledger.store.store import Store

CHUNK_BYTES = 262_144
ACTOR = "cli"


class Loaded(NamedTuple):
    """What came of a file."""

    lines: int
    changed: int
    refused: int
    seconds: float


def load(settings: Settings, file: Path, account: str | None, *, livemode: bool) -> Loaded:
    """Tell the lines of `file`, standard input for `-`. Raises SettingError for a file or account that
    cannot be used; without an account named, there must be one only."""
    try:
        source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise SettingError(f"cannot read {file}: {error.strerror}") from None
    with source, database(settings) as (dsn, key):
        check_schema(dsn)
        collect_seldom()
        size = None if str(file) == "-" else file.stat().st_size
        return uvloop.run(_load(settings, dsn, key, source, size, account, livemode))


async def _load(
    settings: Settings,
    dsn: str,
    key: bytes,
    source: BinaryIO,
    size: int | None,
    account: str | None,
    livemode: bool,
) -> Loaded:
    started = time.monotonic()
    cause = Cause(await _account(dsn, account), livemode, ACTOR, new_id("req", time.time()), None)
    store = Store(dsn, key, settings, Clock(movable=settings.test_clock))
    async with connected(dsn, "ledger_api", name="import") as conn:
        await store.clock.refresh(conn)
    store.start()
    pool = open_pool(dsn)
    await pool.open()
    importing = Import(
        execution_of(store, settings, _no_secret),
        terms_of(settings),
        cause,
        Contents(pool, key),
        reach=partial(_connected_to, dsn, cause.account),
        failure=envelope_of,
    )
    lines = changed = refused = 0
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not sys.stderr.isatty(),
    )  # fmt: skip
    try:
        with progress:
            shown = progress.add_task("importing", total=size)

            async def chunks() -> AsyncIterator[bytes]:
                while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
                    yield chunk
                    progress.advance(shown, len(chunk))

            async for results in importing.results(chunks()):
                lines += len(results)
                changed += sum(result.changed for result in results)
                told = "".join(f"{result.json()}\n" for result in results if result.refused)
                if told:
                    refused += told.count("\n")
                    print(told, end="", flush=True)
                rate = lines / (time.monotonic() - started)
                progress.update(shown, description=f"{lines:,} lines, {rate:,.0f}/s, {refused:,} refused")
    finally:
        await store.close()
        await pool.close()
    return Loaded(lines, changed, refused, time.monotonic() - started)


def _no_secret(state: State) -> str:
    raise AssertionError("nothing that is imported has a secret")


async def _connected_to(dsn: str, platform: str, account: str) -> None:
    """Raises Forbidden for an account that is neither `platform` nor connected to it."""
    async with connected(dsn, "ledger_api", name="import") as conn:
        if account not in [row[0] for row in await list_accounts(conn, platform)]:
            raise Forbidden(
                f"The account '{account}' is not connected to {platform}.", code="account_invalid"
            )


async def _account(dsn: str, account: str | None) -> str:
    async with connected(dsn, "ledger_api", name="import") as conn:
        ids = [row[0] for row in await list_accounts(conn)]
    if account is None and len(ids) != 1:
        raise SettingError("--account: name one of them (ledger accounts list)")
    if account is not None and account not in ids:
        raise SettingError(f"--account: no such account: {account}")
    return account or ids[0]

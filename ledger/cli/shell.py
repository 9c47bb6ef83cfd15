"""What the commands of an operator's shell share: a database connection, the clock, tables of results."""

from __future__ import annotations

import asyncio
import getpass
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from ledger.clock import Clock
from ledger.config import Settings, load_settings
from ledger.postgres.connections import Conn, open_connection
from ledger.postgres.deployment import open_database
from ledger.service_key import check_database

ReturnValue = TypeVar("ReturnValue")


def run_with_connection(action: Callable[[Conn, Clock], Awaitable[ReturnValue]]) -> ReturnValue:
    """Run `action` on a connection to the configured database and return its result.

    The clock is the service's: a test may have moved it. Raises SettingError for settings that cannot be
    used and a database that is not migrated, Unavailable when the database cannot be reached.
    """
    settings = load_settings()
    with open_database(settings) as (dsn, service_key):
        check_database(settings, dsn, service_key)
        return asyncio.run(_run_with_connection(settings, dsn, action))


async def _run_with_connection(
    settings: Settings, dsn: str, action: Callable[[Conn, Clock], Awaitable[ReturnValue]]
) -> ReturnValue:
    async with open_connection(dsn, "ledger_api", name="cli") as conn:
        clock = Clock(movable=settings.test_clock)
        await clock.refresh(conn)
        return await action(conn, clock)


def get_shell_user() -> str:
    """The user of this shell, as user@host."""
    with suppress(KeyError, OSError):  # a container may have no such user: the host still says something
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return socket.gethostname()


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to a terminal, or tab-separated lines to a pipe or file."""
    if not sys.stdout.isatty():
        for row in (header, *rows):
            print(*row, sep="\t")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*header)
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)


def format_count(number: int, noun: str) -> str:
    """A number of things, for example `1 row` and `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_time(at: float | None) -> str:
    """Unix seconds as date and time in UTC; `never` for None."""
    return "never" if at is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))

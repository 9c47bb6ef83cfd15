"""What the commands of an operator's shell share: a database connection, the clock, tables of results.

Standard output has the answer of a command and nothing else: what is logged meanwhile goes to standard error.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import psycopg

from ledger.accounts import list_accounts
from ledger.clock import Clock
from ledger.config import Settings, find_unknown_settings, load_settings
from ledger.errors import SettingError, Unavailable
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import LONG_ANSWER_SECONDS, Conn, first_line, open_connection
from ledger.postgres.deployment import open_database
from ledger.service_key import check_database

CLI_ACTOR = "cli"
"""Who acts when a command does."""

ReturnValue = TypeVar("ReturnValue")


class Deployment(NamedTuple):
    """The settings of a deployment, the connection string of its database, and its service keys."""

    settings: Settings
    dsn: str
    service_keys: ServiceKeys


def run_with_connection(action: Callable[[Conn, Clock], Awaitable[ReturnValue]]) -> ReturnValue:
    """Run `action` on a connection to the configured database and return its result.

    The clock is the service's: a test may have moved it. Raises SettingError for settings that cannot be
    used and a database that is not migrated, Unavailable when the database cannot be reached.
    """
    return run_with_deployment(lambda conn, clock, _: action(conn, clock))


def run_with_deployment(
    action: Callable[[Conn, Clock, Deployment], Awaitable[ReturnValue]],
) -> ReturnValue:
    """`run_with_connection` for an action that also needs the settings and the service keys."""
    with open_deployment() as deployment:
        return asyncio.run(_run(action, deployment))


def run_change(
    action: Callable[[Conn, Clock, Deployment], Awaitable[ReturnValue]],
) -> ReturnValue:
    """`run_with_deployment` for an action that changes something. What it returns is on the synchronous
    standbys too, also where there was nothing to change."""

    async def change(conn: Conn, clock: Clock, deployment: Deployment) -> ReturnValue:
        from ledger.store.durability import run_barrier

        result = await action(conn, clock, deployment)
        await run_barrier(conn)
        return result

    return run_with_deployment(change)


@contextmanager
def open_deployment() -> Iterator[Deployment]:
    """The configured deployment, for a command that only reads or changes its database. Warnings are logged
    to standard error. Raises SettingError and Unavailable as `run_with_connection`, also when the connection
    is lost or the database takes no writes while the command runs."""
    from ledger import logs  # takes longer to import than most commands take to run

    settings = load_settings()
    logs.configure("warning")
    with open_database(settings) as (dsn, configured):
        service_keys = check_database(settings, dsn, configured)
        warn_of_misspelt_settings()
        try:
            yield Deployment(settings, dsn, service_keys)
        except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
            raise Unavailable(first_line(error)) from error


def configure_service(**overrides: object) -> Settings:
    """Load the settings of a command that logs, and configure logging by them. A variable that is no setting
    is logged."""
    from ledger import logs  # takes longer to import than most commands take to run

    settings = load_settings(**overrides)
    logs.configure(settings.log_level)
    logs.warn_of_unknown_settings(find_unknown_settings())
    return settings


def warn_of_misspelt_settings() -> None:
    """Print a line on standard error for each variable that looks like a misspelt setting. Others that begin
    with LEDGER_ may belong to another program; only what runs for long, and logs, warns of all."""
    for unknown in find_unknown_settings():
        if unknown.nearest is not None:
            print(f"ledger: {make_printable(unknown)}", file=sys.stderr)


async def _run(
    action: Callable[[Conn, Clock, Deployment], Awaitable[ReturnValue]], deployment: Deployment
) -> ReturnValue:
    async with open_connection(
        deployment.dsn, "ledger_api", name="cli", answer_seconds=LONG_ANSWER_SECONDS
    ) as conn:
        clock = Clock(movable=deployment.settings.test_clock)
        await clock.refresh(conn)
        return await action(conn, clock, deployment)


async def choose_account(conn: Conn, account: str | None) -> str:
    """The account that --account names; for None the only one that exists. Raises SettingError if there is
    no such account, or None does not say which."""
    known = [row[0] for row in await list_accounts(conn)]
    if account is None and len(known) != 1:
        raise SettingError(f"--account: required, there are {len(known)} accounts (ledger accounts list)")
    if account is not None and account not in known:
        raise SettingError(f"--account: no such account: {account}")
    return account or known[0]


def get_shell_user() -> str:
    """The user of this shell, as user@host."""
    with suppress(KeyError, OSError):  # a container may have no such user: the host still says something
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return socket.gethostname()


def make_printable(value: object) -> str:
    """A value from a caller or a foreign file as text for a terminal, which must not steer it or begin a
    line of its own: control characters and line ends become escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(value)
    )


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to a terminal, or tab-separated lines to a pipe or file."""
    if not sys.stdout.isatty():
        for row in (header, *rows):
            print(*map(make_printable, row), sep="\t")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in header:
        table.add_column(name, overflow="fold")  # an id that is cut off is of no use
    for row in rows:
        table.add_row(*map(make_printable, row))
    Console().print(table)


def format_count(number: int, noun: str, plural: str = "") -> str:
    """A number of things, for example `1 row` and `2 rows`; `plural` where that is not the noun with an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def format_time(at: float | None) -> str:
    """Unix seconds as date and time in UTC; `never` for None."""
    return "never" if at is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


@contextmanager
def clean_up_at_signals() -> Iterator[None]:
    """While the block runs, SIGTERM and SIGHUP end it as an error does, so that it removes what it has half
    made; by default they end the process at once. A signal that is ignored (nohup) stays so."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # what cleans up is not interrupted
        raise SystemExit(128 + number)

    numbers = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


async def run_until_stopped(work: list[Coroutine[Any, Any, None]]) -> None:
    """Run these at once until SIGINT or SIGTERM, which is no error; or until one of them fails."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    tasks = [asyncio.create_task(each) for each in (*work, stopped.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


@contextmanager
def end_at_closed_output() -> Iterator[None]:
    """Whoever reads standard output may stop to do so, as `head` does: that ends the command."""
    try:
        yield
    except BrokenPipeError:
        flush_output()


def flush_output() -> OSError | None:
    """Write what standard output has buffered. Returns why that is not possible: then it is discarded. Else
    the interpreter would try again at its end, and say so in its own words."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None

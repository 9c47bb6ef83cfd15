"""What every `ledger projections` command works with: the database, who types, and the views that are named.

Raises SettingError or a Refused, in one line, for what the operator can mend.
"""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, TypeVar

import psycopg
import typer
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.clock import Clock
from ledger.config import load_settings
from ledger.errors import SettingError, Unavailable
from ledger.postgres.connections import check_schema, connected, first_line, went_away
from ledger.postgres.deployment import database
from ledger.store.codec import Codec
from ledger.store.notifications import Wake
from projections.engine import registry
from projections.engine.engine import Engine
from projections.engine.operations import Operator
from projections.engine.registry import BY_NAME, PROJECTIONS
from projections.projection import Projection
from projections.rebuild import records

_NO_SUCH = "no projection {}: see `ledger projections status`"

Name = Annotated[str, typer.Argument(help="The projection.")]
Names = Annotated[list[str] | None, typer.Argument(help="The projections; or --all.")]
All = Annotated[bool, typer.Option("--all", help="Every projection of this release.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Reason = Annotated[str, typer.Option(help="Why: kept on record.")]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Shell:
    """What a command works with."""

    dsn: str
    key: bytes
    clock: Clock
    conn: AsyncConnection[TupleRow]

    def engine(self) -> Engine:
        return Engine(self.dsn, Codec(self.key), self.clock, Wake(self.dsn, "ledger_projector"))


def run(do: Callable[[Shell], Awaitable[Result]]) -> Result:
    """What `do` gives. Raises SettingError for a database that cannot be used, or cannot do what is asked,
    and Unavailable for one that has gone away."""
    settings = load_settings()

    @asynccontextmanager
    async def shell(dsn: str, key: bytes) -> AsyncIterator[Shell]:
        async with connected(dsn, "ledger_projector", name="cli") as conn:
            clock = Clock(movable=settings.test_clock)
            await clock.refresh(conn)
            yield Shell(dsn, key, clock, conn)

    async def session(dsn: str, key: bytes) -> Result:
        async with shell(dsn, key) as here:
            return await do(here)

    with database(settings) as (dsn, key):
        check_schema(dsn)
        try:
            return asyncio.run(session(dsn, key))
        except psycopg.OperationalError as error:
            if went_away(error):
                raise Unavailable(first_line(error)) from error
            raise SettingError(f"the database cannot do it: {first_line(error)}") from error


def projections_of(names: Sequence[str] | None, everything: bool) -> list[Projection]:
    """Raises SettingError for a name that is none, or when none is given."""
    if everything:
        return list(PROJECTIONS)
    for name in names or ():
        if name not in BY_NAME:
            raise SettingError(_NO_SUCH.format(name))
    if not names:
        raise SettingError("name the projections, or give --all")
    return [BY_NAME[name] for name in dict.fromkeys(names)]


def operator_of(reason: str) -> Operator:
    """Who types, as far as the system tells."""
    with suppress(KeyError, OSError):  # no such user in this container: the host still says something
        return Operator(f"{getpass.getuser()}@{socket.gethostname()}", reason)
    return Operator(socket.gethostname(), reason)


async def number_of(shell: Shell, name: str) -> int:
    """The rebuild that is at work on a view. Raises SettingError when there is none."""
    number = await records.under_way(shell.conn, name)
    if number is None:
        await existing(shell, name)
        raise SettingError(f"{name} is not being rebuilt")
    return number


async def existing(shell: Shell, name: str) -> None:
    """Raises SettingError unless there is such a projection, of this release or another."""
    if not await registry.exists(shell.conn, name):
        raise SettingError(_NO_SUCH.format(name))

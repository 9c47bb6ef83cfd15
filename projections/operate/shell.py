"""What every `ledger projections` command works with: the database, who types, and the views that are named.

Raises SettingError or a RequestError, in one line, for what the operator can mend.
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

from ledger.clock import Clock
from ledger.config import load_settings
from ledger.errors import SettingError, Unavailable
from ledger.postgres.connections import Conn, check_schema, first_line, is_disconnect, open_connection
from ledger.postgres.deployment import open_database
from ledger.store.codec import Codec
from ledger.store.notifications import HeadNotifier
from projections.engine.engine import Engine
from projections.engine.operations import Operator
from projections.engine.registration import projection_exists
from projections.projection import Projection
from projections.read_models.catalog import PROJECTIONS, PROJECTIONS_BY_NAME
from projections.rebuild import records

_NO_SUCH_PROJECTION = "no projection {}: see `ledger projections status`"

NameArgument = Annotated[str, typer.Argument(help="The projection.")]
NamesArgument = Annotated[list[str] | None, typer.Argument(help="The projections; or --all.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every projection of this release.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
ReasonOption = Annotated[str, typer.Option(help="Why: kept on record.")]

ReturnValue = TypeVar("ReturnValue")


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What a command works with."""

    dsn: str
    key: bytes
    clock: Clock
    conn: Conn

    def engine(self) -> Engine:
        notifier = HeadNotifier(self.dsn, "ledger_projector")
        return Engine(self.dsn, Codec(self.key), self.clock, notifier, projections=PROJECTIONS)


def run(action: Callable[[CommandContext], Awaitable[ReturnValue]]) -> ReturnValue:
    """What `action` gives. Raises SettingError for a database that cannot be used, or cannot do what is
    asked, and Unavailable for one that has gone away."""
    settings = load_settings()

    @asynccontextmanager
    async def open_context(dsn: str, key: bytes) -> AsyncIterator[CommandContext]:
        async with open_connection(dsn, "ledger_projector", name="cli") as conn:
            clock = Clock(movable=settings.test_clock)
            await clock.refresh(conn)
            yield CommandContext(dsn, key, clock, conn)

    async def run_in_context(dsn: str, key: bytes) -> ReturnValue:
        async with open_context(dsn, key) as context:
            return await action(context)

    with open_database(settings) as (dsn, key):
        check_schema(dsn)
        try:
            return asyncio.run(run_in_context(dsn, key))
        except psycopg.OperationalError as error:
            if is_disconnect(error):
                raise Unavailable(first_line(error)) from error
            raise SettingError(f"the database cannot do it: {first_line(error)}") from error


def get_projections(names: Sequence[str] | None, all_projections: bool) -> list[Projection]:
    """Raises SettingError for a name that is none, or when none is given."""
    if all_projections:
        return list(PROJECTIONS)
    for name in names or ():
        if name not in PROJECTIONS_BY_NAME:
            raise SettingError(_NO_SUCH_PROJECTION.format(name))
    if not names:
        raise SettingError("name the projections, or give --all")
    return [PROJECTIONS_BY_NAME[name] for name in dict.fromkeys(names)]


def get_operator(reason: str) -> Operator:
    """Who types, as far as the system tells."""
    with suppress(KeyError, OSError):  # no such user in this container: the host still says something
        return Operator(f"{getpass.getuser()}@{socket.gethostname()}", reason)
    return Operator(socket.gethostname(), reason)


async def get_active_rebuild_id(context: CommandContext, name: str) -> int:
    """The rebuild that is at work on a view. Raises SettingError when there is none."""
    rebuild_id = await records.find_active(context.conn, name)
    if rebuild_id is None:
        await require_projection(context, name)
        raise SettingError(f"{name} is not being rebuilt")
    return rebuild_id


async def require_projection(context: CommandContext, name: str) -> None:
    """Raises SettingError unless there is such a projection, of this release or another."""
    if not await projection_exists(context.conn, PROJECTIONS, name):
        raise SettingError(_NO_SUCH_PROJECTION.format(name))

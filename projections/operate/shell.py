"""What every `ledger projections` command needs: the database, the operator, and common options.

What the operator can correct is raised as a SettingError or RequestError of one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import psycopg
import typer

from ledger.cli.shell import Deployment, get_shell_user, open_deployment
from ledger.clock import Clock
from ledger.config import Settings
from ledger.errors import InvalidParameter, SettingError, Unavailable
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import LONG_ANSWER_SECONDS, Conn, first_line, open_connection
from ledger.postgres.sessions import NotReplicated, is_disconnect
from ledger.store.codec import Codec
from ledger.store.notifications import HeadNotifier
from projections.engine.engine import Engine
from projections.engine.operations import Operator
from projections.operate.actions import Actions
from projections.read_models.catalog import PROJECTIONS


def complete_projection(incomplete: str) -> list[str]:
    """The projections that a shell offers for what was typed."""
    return [projection.name for projection in PROJECTIONS if projection.name.startswith(incomplete)]


NameArgument = Annotated[str, typer.Argument(help="The projection.", autocompletion=complete_projection)]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(help="The projections; or --all.", autocompletion=complete_projection)
]
AllOption = Annotated[bool, typer.Option("--all", help="Every projection of this release.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is kept on record.")]

OPTION_PARAMETERS = {"accept_differences", "all", "generation", "reason", "sample", "workers"}
"""Parameters of actions that are options here: an error names the option."""

ReturnValue = TypeVar("ReturnValue")


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The database of a command: its connection string, its service keys, the one clock, a connection."""

    dsn: str
    service_keys: ServiceKeys
    clock: Clock
    conn: Conn
    settings: Settings

    @property
    def actions(self) -> Actions:
        """The actions of an operator on this database."""
        return Actions(self.conn, self.dsn, Codec(self.service_keys), self.clock, self.create_engine)

    def create_engine(self) -> Engine:
        """An engine as a worker runs it; to be closed."""
        return Engine(
            self.dsn,
            Codec(self.service_keys),
            self.clock,
            HeadNotifier(self.dsn, "ledger_projector"),
            projections=PROJECTIONS,
            batch_max=self.settings.projection_batch_max,
            poll_ms=self.settings.poll_ms,
            cached_streams_max=self.settings.cached_streams_max,
        )


def run(action: Callable[[CommandContext], Awaitable[ReturnValue]]) -> ReturnValue:
    """Run `action` on the configured database; its result.

    Raises SettingError for an option that is not valid and for a database that cannot be used or refuses the
    operation, Unavailable when the connection is lost, RequestError for what the action refuses.
    """

    async def run_in_context(deployment: Deployment) -> ReturnValue:
        settings, dsn, service_keys = deployment
        async with open_connection(
            dsn, "ledger_projector", name="cli", answer_seconds=LONG_ANSWER_SECONDS
        ) as conn:
            clock = Clock(movable=settings.test_clock)
            await clock.refresh(conn)
            return await action(CommandContext(dsn, service_keys, clock, conn, settings))

    with open_deployment() as deployment:
        try:
            return asyncio.run(run_in_context(deployment))
        except InvalidParameter as error:
            if error.param not in OPTION_PARAMETERS:
                raise
            raise SettingError(f"--{error.param.replace('_', '-')}: {error}") from error
        except psycopg.OperationalError as error:
            if is_disconnect(error) or isinstance(error, NotReplicated):
                raise Unavailable(first_line(error)) from error
            raise SettingError(f"the database refused the operation: {first_line(error)}") from error


def get_operator(reason: str) -> Operator:
    """The user of this shell."""
    return Operator(get_shell_user(), reason)

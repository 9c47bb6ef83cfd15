"""What every `ledger audit` command needs: the database, the account, and common options.

`run` and `run_on_log` record each command that reads the database, with its parameters, before it reads
anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from ledger.api.composition import build_queries
from ledger.audit.accesses import WHOLE_LOG, Access, Accesses
from ledger.audit.auditor import Auditor
from ledger.cli.shell import (
    CLI_ACTOR,
    Deployment,
    choose_account,
    get_shell_user,
    open_deployment,
    run_with_deployment,
)
from ledger.clock import Clock
from ledger.postgres.connections import Conn, Pool
from ledger.queries.context import QueryContext
from ledger.store.durability import Durability
from ledger.store.store import Store

AccountOption = Annotated[
    str | None, typer.Option("--account", help="The account; optional if there is only one.")
]
LiveOption = Annotated[bool, typer.Option("--live", help="Live mode instead of test mode.")]
PersonalOption = Annotated[
    bool, typer.Option("--personal-data", help="Show personal data, which is otherwise left out.")
]

ReturnValue = TypeVar("ReturnValue")
Action = Callable[[QueryContext, Auditor], Awaitable[ReturnValue]]

_command: ContextVar[tuple[str, Mapping[str, Any]]] = ContextVar("command")


class RecordedCommand(TyperCommand):
    """A command that knows its name and its parameters while it runs: they are recorded as they are called in
    the shell."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        parameters = {_name_parameter(item): ctx.params[item.name] for item in self.params}
        with record_as(f"{ctx.parent.info_name} {self.name}", parameters):
            return super().invoke(ctx)


@contextmanager
def record_as(name: str, parameters: Mapping[str, Any]) -> Iterator[None]:
    """What is read in this block is recorded as the command `ledger {name}` with these parameters."""
    token = _command.set((name, parameters))
    try:
        yield
    finally:
        _command.reset(token)


def run(
    action: Action[ReturnValue],
    *,
    account: str | None = None,
    livemode: bool = False,
    shows_personal_data: bool = False,
) -> ReturnValue:
    """Record the command as an access, run `action` on the configured database and return its result.

    account  None: the only one that exists

    Raises SettingError for settings or an account that cannot be used, Unavailable when the database cannot
    be reached, AccessNotRecorded, RequestError for what the action refuses.
    """
    with open_deployment() as deployment:
        return asyncio.run(_run(deployment, action, account, livemode, shows_personal_data))


def run_on_log(
    action: Callable[[Conn, Clock, Deployment], Awaitable[ReturnValue]], *, account: str | None = None
) -> ReturnValue:
    """`run` for an action that reads all accounts of the log, or both modes of one `account`.

    Raises as `run`; what the action raises of psycopg.Error, too.
    """

    async def run_recorded(conn: Conn, clock: Clock, deployment: Deployment) -> ReturnValue:
        if account is not None:
            await choose_account(conn, account)
        modes = (False,) if account is None else (False, True)
        async with Pool(deployment.dsn) as pool:
            for livemode in modes:
                await record_command(pool, clock, deployment, account or WHOLE_LOG, livemode)
        return await action(conn, clock, deployment)

    return run_with_deployment(run_recorded)


def run_on_all_accounts(action: Callable[[QueryContext], Awaitable[ReturnValue]]) -> ReturnValue:
    """`run` for an action that reads the records of all accounts and modes. Raises as `run`."""

    async def run_recorded(deployment: Deployment) -> ReturnValue:
        async with _open_queries(deployment) as queries:
            await record_command(queries.pool, queries.store.clock, deployment, WHOLE_LOG, livemode=False)
            return await action(queries)

    with open_deployment() as deployment:
        return asyncio.run(run_recorded(deployment))


async def _run(
    deployment: Deployment,
    action: Action[ReturnValue],
    account: str | None,
    livemode: bool,
    shows_personal_data: bool,
) -> ReturnValue:
    async with _open_queries(deployment) as queries:
        async with queries.pool.connection() as conn:
            chosen = await choose_account(conn, account)
        auditor = Auditor(chosen, livemode, CLI_ACTOR, shows_personal_data)
        await record_command(queries.pool, queries.store.clock, deployment, chosen, livemode)
        return await action(queries, auditor)


@asynccontextmanager
async def _open_queries(deployment: Deployment) -> AsyncIterator[QueryContext]:
    settings, dsn, service_keys = deployment
    store = Store(dsn, service_keys, settings, Clock(movable=settings.test_clock))
    pool = Pool(dsn)
    queries = build_queries(store, pool, settings)
    await pool.open()
    try:
        await store.streams.start()
        await store.past_streams.start()
        if store.replica is not None:
            await store.replica.start()
            await store.replica.wait_looked()
        async with pool.connection() as conn:
            await store.clock.refresh(conn)
        yield queries
    finally:
        await queries.pages.close()
        await store.past_streams.close()
        await store.streams.close()
        if store.replica is not None:
            await store.replica.close()
        await pool.close()


async def record_command(
    pool: Pool, clock: Clock, deployment: Deployment, account: str, livemode: bool
) -> None:
    """Record the command that runs, as `record_as` names it, as an access to an account in one mode. Raises
    AccessNotRecorded."""
    durability = Durability(deployment.dsn, "ledger_api")
    accesses = Accesses(pool, clock, durability, deployment.service_keys)
    await accesses.start()
    try:
        await accesses.record(_describe_command(account, livemode))
    finally:
        await accesses.close()
        await durability.close()


def _describe_command(account: str, livemode: bool) -> Access:
    name, parameters = _command.get()
    return Access(
        account=account,
        livemode=livemode,
        actor=CLI_ACTOR,
        operator=get_shell_user(),
        action=f"ledger {name}",
        parameters=list(_list_values(parameters)),
    )


def _name_parameter(parameter: Any) -> str:
    """The name of an option or argument: `starting_after` for --starting-after."""
    return str(max(parameter.opts, key=len)).lstrip("-").replace("-", "_")


def _list_values(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of each parameter that was given, as text."""
    for name, value in parameters.items():
        for item in value if isinstance(value, list | tuple) else (value,):
            if item is not None and item is not False:
                yield name, "true" if item is True else str(item)

"""What every `ledger audit` command needs: the database, the account, and common options.

`run` records each command that reads the database, with its parameters, before it reads anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer

from ledger.accounts import list_accounts
from ledger.api.app import build_queries
from ledger.audit.accesses import Access, Accesses
from ledger.audit.auditor import Auditor
from ledger.cli.shell import get_shell_user
from ledger.clock import Clock
from ledger.config import Settings, load_settings
from ledger.errors import SettingError
from ledger.postgres.connections import Pool
from ledger.postgres.deployment import open_database
from ledger.queries.context import QueryContext
from ledger.service_key import check_database
from ledger.store.store import Store

AccountOption = Annotated[
    str | None, typer.Option("--account", help="The account; optional if there is only one.")
]
LiveOption = Annotated[bool, typer.Option("--live", help="Live mode instead of test mode.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
PersonalOption = Annotated[
    bool, typer.Option("--personal-data", help="Show personal data, which is otherwise left out.")
]

CLI_ACTOR = "cli"
ReturnValue = TypeVar("ReturnValue")
Action = Callable[[QueryContext, Auditor], Awaitable[ReturnValue]]

_command: ContextVar[tuple[str, Mapping[str, Any]]] = ContextVar("command")


def name_command(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """`command`, which knows its name and its parameters while it runs: `run` records them."""

    @wraps(command)
    def run_named(**parameters: Any) -> None:
        token = _command.set((name, parameters))
        try:
            command(**parameters)
        finally:
            _command.reset(token)

    return run_named


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
    settings = load_settings()
    with open_database(settings) as (dsn, service_key):
        check_database(settings, dsn, service_key)
        return asyncio.run(_run(settings, dsn, service_key, action, account, livemode, shows_personal_data))


async def _run(
    settings: Settings,
    dsn: str,
    service_key: bytes,
    action: Action[ReturnValue],
    account: str | None,
    livemode: bool,
    shows_personal_data: bool,
) -> ReturnValue:
    store = Store(dsn, service_key, settings, Clock(movable=settings.test_clock))
    pool = Pool(dsn)
    await pool.open()
    try:
        await store.streams.start()
        await store.past_streams.start()
        async with pool.connection() as conn:
            await store.clock.refresh(conn)
            known = [row[0] for row in await list_accounts(conn)]
        auditor = Auditor(_choose_account(known, account), livemode, CLI_ACTOR, shows_personal_data)
        await _record(Accesses(pool, store.clock, service_key), _describe_command(auditor))
        return await action(build_queries(store, pool, settings), auditor)
    finally:
        await store.past_streams.close()
        await store.streams.close()
        await pool.close()


async def _record(accesses: Accesses, access: Access) -> None:
    await accesses.start()
    try:
        await accesses.record(access)
    finally:
        await accesses.close()


def _describe_command(auditor: Auditor) -> Access:
    name, parameters = _command.get()
    return Access(
        account=auditor.account,
        livemode=auditor.livemode,
        actor=auditor.actor,
        operator=get_shell_user(),
        action=f"ledger audit {name}",
        parameters=list(_list_values(parameters)),
    )


def _list_values(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of each parameter that was given, as text."""
    for name, value in parameters.items():
        for item in value if isinstance(value, list | tuple) else (value,):
            if item is not None and item is not False:
                yield name, "true" if item is True else str(item)


def _choose_account(known: list[str], account: str | None) -> str:
    if account is None and len(known) != 1:
        raise SettingError(f"--account: required, there are {len(known)} accounts (ledger accounts list)")
    if account is not None and account not in known:
        raise SettingError(f"--account: no such account: {account}")
    return account or known[0]

"""The command line. `build_cli` makes it from what lives above this package and runs with it.

What serves HTTP is imported by the commands that do: it is three quarters of the start of all others, and
of every worker of a rebuild.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from ledger import accounts, logs
from ledger.accounts import KeyKind
from ledger.clock import Clock
from ledger.config import Settings, load_settings
from ledger.errors import LedgerError, RequestError, SettingError
from ledger.postgres.connections import Conn, open_connection
from ledger.postgres.deployment import open_database
from ledger.postgres.migrations import migrate

if TYPE_CHECKING:
    from ledger.api.app import Extensions

ReturnValue = TypeVar("ReturnValue")


def build_cli(make_extensions: Callable[[Settings], Extensions]) -> typer.Typer:
    """The `ledger` command; `make_extensions` gives what runs beside the API."""
    cli = typer.Typer(
        help="An event-sourced ledger that speaks Stripe's wire protocol. Settings: LEDGER_… variables.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    cli.add_typer(_accounts_cli(), name="accounts")
    cli.add_typer(_keys_cli(), name="keys")

    @cli.command()
    def serve(
        host: Annotated[str | None, typer.Option(help="Address to listen on (LEDGER_HOST).")] = None,
        port: Annotated[int | None, typer.Option(help="Port to listen on (LEDGER_PORT).")] = None,
    ) -> None:
        """Run everything: the database if none is named, the API, the projections."""
        from ledger.cli import serve

        overrides = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        settings = _load_settings(**overrides)
        serve.serve(settings, make_extensions(settings), lambda text: print(text, flush=True))

    @cli.command()
    def api(
        fd: Annotated[int | None, typer.Option(hidden=True, help="An inherited listening socket.")] = None,
    ) -> None:
        """Run the API alone."""
        from ledger.cli import serve

        settings = _load_settings()
        serve.serve_api(settings, make_extensions(settings), fd)

    @cli.command()
    def worker(
        watched: Annotated[bool, typer.Option("--watched", hidden=True, help="End with the parent.")] = False,
    ) -> None:
        """Run the projections alone; any number of workers may run."""
        from ledger.cli import serve

        settings = _load_settings()
        serve.run_worker(settings, make_extensions(settings).service_factories, supervised=watched)

    @cli.command("import")
    def import_file(
        file: Annotated[Path, typer.Argument(help="NDJSON, one thing a line; - for standard input.")],
        account: Annotated[str | None, typer.Option(help="Whose; may be left out if there is one.")] = None,
        live: Annotated[bool, typer.Option("--live", help="In live mode; else in test mode.")] = False,
    ) -> None:
        """Tell the ledger of customers, charges, disputes and facts; refused lines are printed."""
        from ledger.cli import import_file

        summary = import_file.run_import(_load_settings(), file, account, livemode=live)
        unchanged_count = summary.line_count - summary.changed_count - summary.refused_count
        print(
            f"{summary.line_count} lines in {summary.seconds:.1f} s: {summary.changed_count} made a change, "
            f"{unchanged_count} were known, {summary.refused_count} refused.",
            file=sys.stderr,
        )
        if summary.refused_count:
            raise typer.Exit(1)

    @cli.command("migrate")
    def migrate_schema() -> None:
        """Bring the database's schema to this release's."""
        with open_database(_load_settings()) as (dsn, _):
            migrate(dsn)
        print("The schema is up to date.")

    return cli


def run_cli(cli: typer.Typer) -> None:
    """Run the command line; what the caller can mend is one line on standard error and exit status 1."""
    try:
        cli()
    except (SettingError, RequestError) as error:
        sys.exit(f"ledger: {error}")
    except LedgerError as error:
        sys.exit(f"ledger: {type(error).__name__}: {error}")


def run_with_connection(action: Callable[[Conn], Awaitable[ReturnValue]]) -> ReturnValue:
    """What `action` gives, run on a connection of its own to the configured database."""

    async def run(dsn: str) -> ReturnValue:
        async with open_connection(dsn, "ledger_api", name="cli") as conn:
            return await action(conn)

    with open_database(_load_settings()) as (dsn, _):
        return asyncio.run(run(dsn))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on a terminal, tab-separated lines when piped."""
    if not sys.stdout.isatty():
        for row in (header, *rows):
            print(*row, sep="\t")
        return
    table = Table(*header)
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)


async def _read_clock(conn: Conn) -> float:
    """What the one clock says, wherever a test has moved it."""
    clock = Clock(movable=_load_settings().test_clock)
    await clock.refresh(conn)
    return clock.now()


def _format_time(at: float | None) -> str:
    return "never" if at is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def _load_settings(**overrides: object) -> Settings:
    settings = load_settings(**overrides)
    logs.configure(settings.log_level)
    return settings


def _accounts_cli() -> typer.Typer:
    cli = typer.Typer(help="Accounts.", no_args_is_help=True)

    @cli.command("create")
    def create(
        name: Annotated[str, typer.Argument(help="What to call it.")],
        platform: Annotated[str | None, typer.Option(help="The account it is connected to.")] = None,
    ) -> None:
        """Create an account and print its id."""
        print(run_with_connection(lambda conn: accounts.create_account(conn, name, platform=platform)))

    @cli.command("list")
    def list_all() -> None:
        """List all accounts."""
        rows = [
            (*row[:-1], _format_time(row[-1]))
            for row in run_with_connection(lambda conn: accounts.list_accounts(conn))
        ]
        print_table(("id", "name", "platform", "api version", "created"), rows)

    return cli


def _keys_cli() -> typer.Typer:
    cli = typer.Typer(help="API keys.", no_args_is_help=True)

    @cli.command("create")
    def create(
        account: Annotated[str, typer.Argument(help="The account it acts for.")],
        kind: Annotated[KeyKind, typer.Option(help="Secret, restricted or publishable.")] = "sk",
        live: Annotated[bool, typer.Option("--live", help="For live mode; else test mode.")] = False,
        name: Annotated[str, typer.Option(help="What to call it.")] = "",
        scope: Annotated[
            list[str] | None, typer.Option(help="What a restricted key may do; repeat for more.")
        ] = None,
        expires_in_days: Annotated[float | None, typer.Option(help="Days until it ends; never.")] = None,
    ) -> None:
        """Create a key and print it; it cannot be shown again."""
        if expires_in_days is not None and expires_in_days <= 0:
            raise SettingError("--expires-in-days: must be more than 0")
        if scope and kind != "rk":
            raise SettingError("--scope is for restricted keys (--kind rk)")
        for scope_name in scope or ():
            if scope_name not in accounts.SCOPES:
                raise SettingError(f"--scope {scope_name}: must be one of {', '.join(accounts.SCOPES)}")

        async def create_key(conn: Conn) -> tuple[str, str]:
            lifetime_seconds = None if expires_in_days is None else expires_in_days * 86_400
            expires_at = None if lifetime_seconds is None else await _read_clock(conn) + lifetime_seconds
            return await accounts.create_key(
                conn, account, kind, livemode=live, name=name, scopes=scope or (), expires_at=expires_at
            )

        key_id, secret = run_with_connection(create_key)
        print(f"id   {key_id}\nkey  {secret}")

    @cli.command("list")
    def list_all(
        account: Annotated[str | None, typer.Option(help="Only of this account.")] = None,
    ) -> None:
        """List keys, without what they are."""

        async def list_keys(conn: Conn) -> list[tuple[object, ...]]:
            now = await _read_clock(conn)
            return [
                (
                    key.id,
                    key.account,
                    key.masked,
                    key.name,
                    " ".join(key.scopes),
                    key.get_status(now),
                    _format_time(last_used_at),
                )
                for key, _, last_used_at in await accounts.list_keys(conn, account)
            ]

        rows = run_with_connection(list_keys)
        print_table(("id", "account", "key", "name", "scopes", "state", "last used"), rows)

    @cli.command("roll")
    def roll(
        key: Annotated[str, typer.Argument(help="The key's id (key_…).")],
        overlap: Annotated[int, typer.Option(help="Seconds for which the old key is still good.")] = 0,
    ) -> None:
        """Replace a key by a new one that may do the same, and print it; it cannot be shown again."""
        if overlap < 0:
            raise SettingError("--overlap: must be 0 or more seconds")

        async def roll_key(conn: Conn) -> tuple[str, str]:
            return await accounts.roll_key(conn, key, overlap_seconds=overlap, now=await _read_clock(conn))

        key_id, secret = run_with_connection(roll_key)
        print(f"id   {key_id}\nkey  {secret}")

    @cli.command("revoke")
    def revoke(key: Annotated[str, typer.Argument(help="The key's id (key_…).")]) -> None:
        """End a key; every process refuses it within a second."""

        async def revoke_key(conn: Conn) -> None:
            await accounts.revoke_key(conn, key, now=await _read_clock(conn))

        run_with_connection(revoke_key)
        print(f"{key} is revoked.")

    return cli

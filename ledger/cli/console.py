"""`ledger console`: the way in to the page for people at /console."""

from __future__ import annotations

import json
from typing import Annotated, NamedTuple

import typer

from ledger import accounts
from ledger.cli.accounts import check_scopes, identify_operator
from ledger.cli.groups import JsonOption, ReasonOption, build_group, format_examples, print_json
from ledger.cli.service.development import DEV_KEYS_FILE
from ledger.cli.service.listener import format_url
from ledger.cli.shell import Deployment, choose_account, format_time, get_shell_user, run_change
from ledger.clock import Clock
from ledger.config import Settings
from ledger.console.sessions import LINK_SECONDS, OPERATOR_SCOPES, create_link
from ledger.errors import SettingError
from ledger.postgres.connections import Conn


class _NewKey(NamedTuple):
    account: str
    livemode: bool
    scopes: tuple[str, ...]
    operator: dict[str, str]


class _Link(NamedTuple):
    url: str
    key_id: str
    account: str
    expires_at: float


def build_console_group() -> typer.Typer:
    """`ledger console`."""
    group = build_group(
        "Open the console, a page for people.", "ledger console open", "ledger console open --scope audit"
    )
    _add_open_command(group)
    return group


def _add_open_command(group: typer.Typer) -> None:
    @group.command(
        "open",
        epilog=format_examples(
            "ledger console open",
            "ledger console open --account acct_0352CZ3z1jWpJM --live --reason 'webhooks are late'",
            "ledger console open --scope audit --scope projections",
        ),
    )
    def open_console(
        account: Annotated[
            str | None, typer.Option(help="The account to show; default: the only one that is no other's.")
        ] = None,
        live: Annotated[bool, typer.Option("--live", help="Show live mode instead of test mode.")] = False,
        scope: Annotated[
            list[str] | None,
            typer.Option(
                help="Allow only this; repeat the option for several. Default: everything but changes to "
                "objects of the public API."
            ),
        ] = None,
        url: Annotated[
            str | None, typer.Option(help="Where the service is reached; default: as its settings say.")
        ] = None,
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Print a link that opens the console once, within ten minutes.

        The link belongs to a new restricted key, which ends with the session that it opens
        (LEDGER_CONSOLE_SESSION_SECONDS). Revoking the key ends the session at once."""
        check_scopes(scope or ())
        operator = identify_operator(reason)

        async def create(conn: Conn, clock: Clock, deployment: Deployment) -> _Link:
            if not deployment.settings.console:
                raise SettingError("LEDGER_CONSOLE: the console is switched off")
            chosen = await _choose_account(conn, account)
            key = _NewKey(chosen, live, tuple(scope or OPERATOR_SCOPES), operator)
            return await _create_link(conn, key, clock.now(), deployment.settings, url)

        link = run_change(create)
        if as_json:
            print_json(
                {"url": link.url, "key": link.key_id, "account": link.account, "expires_at": link.expires_at}
            )
        else:
            print(f"{link.url}\n\nIt opens once, until {format_time(link.expires_at)}, with {link.key_id}.")


async def _create_link(conn: Conn, key: _NewKey, now: float, settings: Settings, url: str | None) -> _Link:
    """A link that opens the service at `url`, by default at where its settings say that it is."""
    async with conn.transaction():
        key_id, _ = await accounts.create_key(
            conn,
            key.account,
            "rk",
            livemode=key.livemode,
            name=f"console of {get_shell_user()}",
            scopes=key.scopes,
            expires_at=now + LINK_SECONDS + settings.console_session_seconds,
            **key.operator,
        )
        link = await create_link(conn, key_id, now=now)
    address = (url or _find_url(settings)).rstrip("/")
    return _Link(f"{address}/console#{link}", key_id, key.account, now + LINK_SECONDS)


async def _choose_account(conn: Conn, account: str | None) -> str:
    """The account of --account, or the only one that is connected to no platform. Raises SettingError."""
    own = [each.id for each in await accounts.list_accounts(conn) if each.platform is None]
    return own[0] if account is None and len(own) == 1 else await choose_account(conn, account)


def _find_url(settings: Settings) -> str:
    """Where the service is reached, as far as its settings tell: a service with an embedded database has
    written it down."""
    if settings.public_url is not None:
        return settings.public_url
    file = settings.data_dir / DEV_KEYS_FILE
    if settings.database_url is None and file.exists():
        return str(json.loads(file.read_text())["url"])
    return format_url(settings.host, settings.port)

"""`ledger accounts` and `ledger keys`: create, list, replace and revoke, beside a running service or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ledger import accounts
from ledger.accounts import SCOPES, SCOPES_PAGE, KeyKind, KeySummary
from ledger.cli.groups import (
    JsonOption,
    ReasonOption,
    YesOption,
    build_group,
    format_examples,
    print_json,
    require_consent,
)
from ledger.cli.shell import (
    Deployment,
    format_time,
    get_shell_user,
    print_table,
    run_change,
    run_with_connection,
)
from ledger.clock import Clock
from ledger.errors import InvalidParameter, SettingError
from ledger.postgres.connections import Conn
from ledger.wire.suggestions import list_alternatives

EXPIRES_IN_DAYS_MAX = 100_000
REASON_LENGTH_MAX = 1000
EXAMPLE_KEY = "key_0352CZ3z1jWpJM7B8upbma"

KeyArgument = Annotated[str, typer.Argument(help="The id of the key (key_…).")]


def build_accounts_group() -> typer.Typer:
    """`ledger accounts`."""
    group = build_group(
        "Create and list accounts.", "ledger accounts create 'Example GmbH'", "ledger accounts list --json"
    )

    @group.command(
        "create",
        epilog=format_examples(
            "ledger accounts create 'Example GmbH'",
            "ledger accounts create 'Branch office' --platform acct_0352CZ3z1jWpJM",
        ),
    )
    def create(
        name: Annotated[str, typer.Argument(help="A name for the account.")],
        platform: Annotated[
            str | None, typer.Option(help="The platform account to connect the new account to.")
        ] = None,
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Create an account and print its id."""
        operator = identify_operator(reason)
        account = run_change(
            lambda conn, *_: accounts.create_account(conn, name, platform=platform, **operator)
        )
        if as_json:
            print_json({"id": account, "name": name, "platform": platform})
        else:
            print(account)

    @group.command("list", epilog=format_examples("ledger accounts list", "ledger accounts list --json"))
    def list_all(as_json: JsonOption = False) -> None:
        """List all accounts."""
        rows = run_with_connection(lambda conn, _: accounts.list_accounts(conn))
        if as_json:
            print_json({"data": [row._asdict() for row in rows]})
            return
        print_table(
            ("id", "name", "platform", "api version", "created"),
            [
                (row.id, row.name, row.platform or "", row.api_version, format_time(row.created_at))
                for row in rows
            ],
        )

    return group


def build_keys_group() -> typer.Typer:
    """`ledger keys`."""
    group = build_group(
        "Create, list, replace and revoke API keys.",
        "ledger keys list",
        "ledger keys create acct_0352CZ3z1jWpJM --name web",
    )
    _add_create_command(group)
    _add_list_command(group)
    _add_roll_command(group)
    _add_revoke_command(group)
    return group


def _add_create_command(group: typer.Typer) -> None:
    @group.command(
        "create",
        epilog=format_examples(
            "ledger keys create acct_0352CZ3z1jWpJM --live --name web",
            "ledger keys create acct_0352CZ3z1jWpJM --kind rk --scope projections --scope audit",
        ),
    )
    def create(
        account: Annotated[str, typer.Argument(help="The account that the key belongs to.")],
        kind: Annotated[KeyKind, typer.Option(help="Secret, restricted or publishable.")] = "sk",
        live: Annotated[
            bool, typer.Option("--live", help="Create a live-mode key instead of a test-mode key.")
        ] = False,
        name: Annotated[str, typer.Option(help="A name for the key.")] = "",
        scope: Annotated[
            list[str] | None,
            typer.Option(help="A permission of a restricted key; repeat the option for several."),
        ] = None,
        expires_in_days: Annotated[
            float | None, typer.Option(help="Days until the key expires; without it, the key never does.")
        ] = None,
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Create a key and print its secret.

        The secret cannot be shown again."""
        scopes, operator = scope or (), identify_operator(reason)
        _check_new_key(kind, scopes, expires_in_days)

        async def create_key(conn: Conn, clock: Clock, _: Deployment) -> tuple[str, str]:
            expires_at = None if expires_in_days is None else clock.now() + expires_in_days * 86_400
            return await accounts.create_key(
                conn,
                account,
                kind,
                livemode=live,
                name=name,
                scopes=scopes,
                expires_at=expires_at,
                **operator,
            )

        _print_new_key(*run_change(create_key), as_json=as_json)


def _add_list_command(group: typer.Typer) -> None:
    @group.command(
        "list",
        epilog=format_examples(
            "ledger keys list", "ledger keys list --json | jq -r '.data[] | select(.last_used_at == null).id'"
        ),
    )
    def list_all(
        account: Annotated[str | None, typer.Option(help="List only the keys of this account.")] = None,
        as_json: JsonOption = False,
    ) -> None:
        """List keys without their secrets."""

        async def list_keys(conn: Conn, clock: Clock) -> tuple[list[KeySummary], float]:
            if account is not None and not await accounts.list_accounts(conn, account):
                raise InvalidParameter(f"No such account: '{account}'", param="account")
            return await accounts.list_keys(conn, account), clock.now()

        keys, now = run_with_connection(list_keys)
        if as_json:
            print_json({"data": [summary.to_json(now) for summary in keys]})
            return
        rows = [
            (
                key.id,
                key.account,
                key.masked,
                key.name,
                " ".join(key.scopes),
                key.get_status(now),
                format_time(last_used_at),
            )
            for key, _, last_used_at in keys
        ]
        print_table(("id", "account", "key", "name", "scopes", "state", "last used"), rows)


def _add_roll_command(group: typer.Typer) -> None:
    @group.command("roll", epilog=format_examples(f"ledger keys roll {EXAMPLE_KEY} --overlap 86400"))
    def roll(
        key: KeyArgument,
        overlap: Annotated[int, typer.Option(help="Seconds for which the old key stays valid.")] = 0,
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Replace a key by a new one.

        The new key has the same permissions. Prints its secret, which cannot be shown again."""
        if not 0 <= overlap <= accounts.OVERLAP_SECONDS_MAX:
            raise SettingError(f"--overlap: must be 0 to {accounts.OVERLAP_SECONDS_MAX} seconds")

        operator = identify_operator(reason)

        async def roll_key(conn: Conn, clock: Clock, _: Deployment) -> tuple[str, str]:
            return await accounts.roll_key(conn, key, overlap_seconds=overlap, now=clock.now(), **operator)

        _print_new_key(*run_change(roll_key), as_json=as_json)


def _add_revoke_command(group: typer.Typer) -> None:
    @group.command(
        "revoke",
        epilog=format_examples(
            f"ledger keys revoke {EXAMPLE_KEY}", f"ledger keys revoke {EXAMPLE_KEY} --yes --reason leaked"
        ),
    )
    def revoke(
        key: KeyArgument, reason: ReasonOption = "", yes: YesOption = False, as_json: JsonOption = False
    ) -> None:
        """Revoke a key for good, after asking.

        Every process refuses it within a second."""
        operator = identify_operator(reason)
        if not yes:
            require_consent(run_with_connection(lambda conn, _: _describe_loss(conn, key)), yes=yes)
        run_change(lambda conn, clock, _: accounts.revoke_key(conn, key, now=clock.now(), **operator))
        if as_json:
            print_json({"id": key, "state": "expired"})
        else:
            print(f"{key} is revoked.")


def identify_operator(reason: str) -> dict[str, str]:
    """Who changes something, and why, for the record. Raises SettingError."""
    if len(reason) > REASON_LENGTH_MAX:
        raise SettingError(f"--reason: must be text of at most {REASON_LENGTH_MAX} characters")
    return {"who": get_shell_user(), "reason": reason}


async def _describe_loss(conn: Conn, key_id: str) -> str:
    """What revoking a key does, and who may still use it. Raises InvalidParameter for a key that there is
    not."""
    for key, _, last_used_at in await accounts.list_keys(conn):
        if key.id == key_id:
            name = f", {key.name!r}" if key.name else ""
            return (
                f"{key.masked} of {key.account}{name}, last used: {format_time(last_used_at)}. Whoever uses "
                "it is refused from now on, and it cannot be made valid again."
            )
    raise InvalidParameter(f"No such key: '{key_id}'", code="resource_missing", param="id")


def _check_new_key(kind: KeyKind, scopes: Sequence[str], expires_in_days: float | None) -> None:
    """Raises SettingError for options that do not go together."""
    if expires_in_days is not None and not 0 < expires_in_days <= EXPIRES_IN_DAYS_MAX:
        raise SettingError(f"--expires-in-days: must be more than 0, and at most {EXPIRES_IN_DAYS_MAX}")
    if scopes and kind != "rk":
        raise SettingError("--scope is for restricted keys (--kind rk)")
    check_scopes(scopes)


def check_scopes(scopes: Sequence[str]) -> None:
    """Raises SettingError for a --scope that there is not, with the nearest ones."""
    for scope in scopes:
        if scope not in SCOPES:
            raise SettingError(
                f"--scope {scope}: must be one of {list_alternatives(scope, SCOPES, SCOPES_PAGE)}"
            )


def _print_new_key(key_id: str, secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": key_id, "key": secret})
        return
    print(f"id   {key_id}\nkey  {secret}")

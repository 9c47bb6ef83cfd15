"""`ledger secrets`: the service keys of a deployment, and the replacement of one by another."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import typer

from ledger.cli.groups import JsonOption, build_group, format_examples, print_json
from ledger.cli.shell import format_count, format_time, print_table
from ledger.config import SECRET_KEY_LENGTH_MIN, Settings, load_settings
from ledger.errors import SettingError
from ledger.keys.rotation import (
    RESTART,
    SESSION_SETTINGS,
    KeyUse,
    Rewrapped,
    find_obstacle,
    list_key_use,
    rotate,
)
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import LONG_ANSWER_SECONDS, Conn, open_connection
from ledger.postgres.deployment import (
    ConfiguredKeys,
    get_key_file,
    get_previous_key_file,
    open_database,
    read_key_file,
)
from ledger.postgres.migrations import check_schema
from ledger.postgres.private_files import write_private_file
from ledger.service_key import derive_check_value

SETTLE_SECONDS = 1.0
"""Added to the longest time of an append: a process notes a lost answer that much later."""

STOP_EMBEDDED = "stop the service of this embedded database"

ReturnValue = TypeVar("ReturnValue")


class _Opened(NamedTuple):
    """The database and the keys as they are configured: a command of this group compares them itself."""

    settings: Settings
    dsn: str
    configured: ConfiguredKeys

    def run(self, action: Callable[[Conn], Awaitable[ReturnValue]]) -> ReturnValue:
        """Run `action` on a connection."""

        async def run_connected() -> ReturnValue:
            async with open_connection(
                self.dsn,
                "ledger_api",
                name="secrets",
                settings=SESSION_SETTINGS,
                answer_seconds=LONG_ANSWER_SECONDS,
            ) as conn:
                return await action(conn)

        return asyncio.run(run_connected())


def build_secrets_group() -> typer.Typer:
    """`ledger secrets`."""
    group = build_group(
        "Show the service keys, and replace the service key.",
        "ledger secrets status",
        "ledger secrets rotate --dry-run",
    )
    _add_status_command(group)
    _add_rotate_command(group)
    return group


def _add_status_command(group: typer.Typer) -> None:
    @group.command("status", epilog=format_examples("ledger secrets status", "ledger secrets status --json"))
    def show_status(as_json: JsonOption = False) -> None:
        """Show the service keys by their ids, and how much each one wraps.

        It shows no key, and also works with a key that is not one of this database."""
        with _open() as opened:
            own_ids = ServiceKeys(*opened.configured).ids
            found = opened.run(list_key_use)
        if as_json:
            print_json({"data": [_to_json(each, own_ids) for each in found]})
            return
        _print_keys(found, own_ids)


def _add_rotate_command(group: typer.Typer) -> None:
    @group.command(
        "rotate",
        epilog=format_examples(
            "ledger secrets rotate --dry-run",
            "ledger secrets rotate",
            "ledger secrets rotate --new-key-file /safe/new.key",
        ),
    )
    def rotate_keys(
        new_key_file: Annotated[
            Path | None,
            typer.Option(
                help="The new key, if it is not LEDGER_SECRET_KEY yet; an embedded database keeps a copy."
            ),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only say what would be done, and what is in the way.")
        ] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Wrap everything under the new service key, LEDGER_SECRET_KEY.

        All processes serve meanwhile, each with both keys: LEDGER_PREVIOUS_SECRET_KEY is the one before. If
        it is interrupted, run it again. The whole procedure: docs/operations.md, Replace the service key."""
        with _open() as opened:
            configured = _choose_keys(opened.settings, opened.configured, new_key_file)
            keys = ServiceKeys(*configured)
            if dry_run:
                _show_plan(opened, keys, as_json=as_json)
                return
            done = _rotate(opened, configured, keys, is_new_file=new_key_file is not None)
        if as_json:
            print_json({"current": keys.current_id, **done._asdict()})
            return
        _print_done(opened.settings, keys, done)


@contextmanager
def _open() -> Iterator[_Opened]:
    from ledger import logs  # takes longer to import than most commands take to run

    settings = load_settings()
    logs.configure("warning")
    with open_database(settings) as (dsn, configured):
        check_schema(dsn)
        yield _Opened(settings, dsn, configured)


def _choose_keys(settings: Settings, configured: ConfiguredKeys, new_key_file: Path | None) -> ConfiguredKeys:
    """The new key and the one before. Raises SettingError."""
    if new_key_file is None:
        return configured
    new_key = read_key_file(new_key_file).rstrip(b"\r\n")  # which an editor or `openssl rand` adds
    if len(new_key) < SECRET_KEY_LENGTH_MIN:
        raise SettingError(f"{new_key_file} is not a file with a service key")
    if new_key == configured.current:
        return configured
    if configured.previous not in (None, new_key):
        raise SettingError(
            "--new-key-file: there is a previous key already, so a rotation has begun: end it first, without "
            "this option"
        )
    return ConfiguredKeys(new_key, configured.current)


def _rotate(
    opened: _Opened, configured: ConfiguredKeys, keys: ServiceKeys, *, is_new_file: bool
) -> Rewrapped:
    async def act(conn: Conn) -> Rewrapped:
        remedy = _choose_remedy(opened.settings)
        obstacle = await find_obstacle(conn, keys, remedy=remedy)
        if obstacle is not None:
            raise SettingError(obstacle)
        if is_new_file and opened.settings.secret_key is None:
            _install_key_files(opened.settings, configured)
        return await rotate(
            conn,
            keys,
            derive_check_value(configured.current),
            settle_seconds=opened.settings.append_timeout_ms / 1000 + SETTLE_SECONDS,
            remedy=remedy,
            show_progress=_show_progress,
        )

    return opened.run(act)


def _choose_remedy(settings: Settings) -> str:
    """What to do about running processes that lack the new key. Those of an embedded database read theirs
    from its file, where the new one comes only now."""
    return RESTART if settings.secret_key is not None else STOP_EMBEDDED


def _install_key_files(settings: Settings, configured: ConfiguredKeys) -> None:
    """Keep both keys beside the embedded database; the one before first, so that none is ever lost."""
    if configured.previous is not None:
        write_private_file(get_previous_key_file(settings), configured.previous.decode())
        write_private_file(get_key_file(settings), configured.current.decode())


def _show_progress(count: int) -> None:
    if sys.stderr.isatty():
        print(f"\rdata keys wrapped again: {count:,}", end="", file=sys.stderr, flush=True)


def _show_plan(opened: _Opened, keys: ServiceKeys, *, as_json: bool) -> None:
    async def look(conn: Conn) -> tuple[list[KeyUse], str | None]:
        obstacle = await find_obstacle(conn, keys, remedy=_choose_remedy(opened.settings))
        return await list_key_use(conn), obstacle

    found, obstacle = opened.run(look)
    others = [each for each in found if each.id != keys.current_id]
    data_keys = sum(each.data_keys for each in others)
    secrets = sum(each.secrets for each in others)
    retired = [each.id for each in others if each.state in ("accepted", "current")]
    if as_json:
        print_json(
            {
                "current": keys.current_id,
                "data_keys": data_keys,
                "secrets": secrets,
                "retired": retired,
                "obstacle": obstacle,
            }
        )
        return
    print(
        f"To wrap under {keys.current_id}: {format_count(data_keys, 'data key')} and "
        f"{format_count(secrets, 'secret')}. To retire: {', '.join(retired) or 'no key'}."
    )
    print("Nothing was changed." if obstacle is None else f"In the way: {obstacle}.")


def _print_keys(found: list[KeyUse], own_ids: tuple[str, ...]) -> None:
    rows = [
        (
            each.id, each.state, "yes" if each.id in own_ids else "no", each.data_keys, each.secrets,
            format_time(each.accepted_at), format_time(each.current_at), format_time(each.retired_at),
        )
        for each in found
    ]  # fmt: skip
    header = ("id", "state", "set here", "data keys", "secrets", "accepted", "current since", "retired")
    print_table(header, rows)


def _to_json(use: KeyUse, own_ids: tuple[str, ...]) -> dict[str, object]:
    return {"object": "service_key", **use._asdict(), "is_set_here": use.id in own_ids}


def _print_done(settings: Settings, keys: ServiceKeys, done: Rewrapped) -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(
        f"Wrapped under {keys.current_id}: {format_count(done.data_keys, 'data key')} and "
        f"{format_count(done.secrets, 'secret')} more."
    )
    if not done.retired:
        print("No other key was in use.")
        return
    where = (
        "LEDGER_PREVIOUS_SECRET_KEY" if settings.secret_key is not None else get_previous_key_file(settings)
    )
    print(
        f"Retired: {', '.join(done.retired)}. No process needs {where} any more. Backups of before need that "
        "key: destroy it with the last of them."
    )

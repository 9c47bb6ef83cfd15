"""Registers `ledger backup`, `ledger restore` and `ledger psql`, which import what only they need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger.cli.groups import JsonOption, format_examples, print_json
from ledger.cli.shell import clean_up_at_signals, warn_of_misspelt_settings
from ledger.config import load_settings

NEXT_STEPS = """\
Next: start `ledger worker` or `ledger serve`, wait until `ledger projections status` shows no lag, and
run `ledger projections verify`. It sends no webhooks until `ledger webhooks resume`. Before it takes the
place of the original: docs/operations.md, Backups."""
REPLAY_STEP = """\
Whoever was erased after these keys were backed up is back: request these erasures again from their
certificates, before it serves anybody: `ledger erase replay /srv/erasures/*.certificate`."""


def add_database_commands(cli: typer.Typer) -> None:
    """Add the commands to the `ledger` command."""
    _add_backup_command(cli)
    _add_restore_command(cli)
    _add_psql_command(cli)


def _add_backup_command(cli: typer.Typer) -> None:
    @cli.command(
        "backup",
        epilog=format_examples(
            "ledger backup ledger.dump",
            "ledger backup /backups/log.dump --keys /backups-of-30-days/keys.dump --log-only",
        ),
    )
    def back_up(
        file: Annotated[Path, typer.Argument(help="The file to write, of pg_dump's custom format.")],
        keys: Annotated[
            Path | None, typer.Option(help="The file for the keys of personal data; default: FILE.keys.")
        ] = None,
        log_only: Annotated[
            bool, typer.Option("--log-only", help="Leave out what can be rebuilt from the log: about half.")
        ] = False,
        force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Back up the database: the log and the keys, a file each.

        The service may go on meanwhile. Personal data is sealed in the first file, and the second has what
        opens it: delete that after some days, and what was erased since cannot come back. Neither has the
        service key. Both are of one moment, and read back before they get their names."""
        from ledger.cli.database import backup

        settings, keys_file = load_settings(), keys or backup.name_keys_file(file)
        with clean_up_at_signals():
            dump = backup.back_up(settings, file, keys_file, log_only=log_only, overwrite=force)
        warn_of_misspelt_settings()
        if as_json:
            print_json({"file": str(file), "keys_file": str(keys_file)} | dump._asdict())
            return
        print(f"{file}: {dump.size_bytes:,} bytes, everything up to position {dump.position}.")
        size = f"{dump.keys_size_bytes:,} bytes"
        print(f"{keys_file}: {size}, the keys of personal data. Keep it for days only.")
        print(f"Not in them: the service key ({backup.describe_key(settings)}).")
        print("Keep that too, elsewhere: without it, personal data and files cannot be read.")


def _add_restore_command(cli: typer.Typer) -> None:
    @cli.command(
        "restore",
        epilog=format_examples(
            "LEDGER_DATA_DIR=/srv/drill ledger restore ledger.dump --key-file /safe/secret.key",
            "ledger restore /backups/log.dump --keys /backups-of-30-days/keys.dump",
        ),
    )
    def restore_file(
        file: Annotated[Path, typer.Argument(help="A file of `ledger backup`.")],
        keys: Annotated[
            Path | None, typer.Option(help="Its keys of personal data, or newer ones; default: FILE.keys.")
        ] = None,
        without_keys: Annotated[
            bool, typer.Option("--without-keys", help="Without them: personal data is lost for good.")
        ] = False,
        key_file: Annotated[
            Path | None,
            typer.Option(
                help="The service key of an embedded database (secret.key); it is copied to the new one."
            ),
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Restore a backup into an empty database.

        The database is the one of LEDGER_DATABASE_URL, which must be empty, or a new embedded one in
        LEDGER_DATA_DIR, which must not exist. It needs the service key of the data. When it fails, nothing
        has changed."""
        from ledger.cli.database import restore

        settings = load_settings()
        with clean_up_at_signals():
            restored = restore.restore(settings, restore.find_dumps(file, keys, without_keys), key_file)
        warn_of_misspelt_settings()
        place = "the database" if settings.database_url is not None else settings.data_dir.absolute()
        if as_json:
            facts = {
                "missing_roles": restored.missing_roles,
                **restored.keys._asdict(),
                "may_lack_erasures": restored.may_lack_erasures,
            }
            print_json({"restored_into": str(place), **facts})
            return
        print(f"Restored into {place}, which is at this release's schema; the service key is the right one.")
        if restored.missing_roles:
            names = ", ".join(restored.missing_roles)
            print(f"Roles that this server does not have, which got no rights: {names}.")
        for line in restore.describe_keys(restored.keys):
            print(line)
        print(NEXT_STEPS)
        if restored.may_lack_erasures:
            print(REPLAY_STEP)


def _add_psql_command(cli: typer.Typer) -> None:
    @cli.command(
        "psql",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        epilog=format_examples(
            "ledger psql", "ledger psql -c 'SELECT * FROM head'", "ledger psql --role ledger_analyst"
        ),
    )
    def run_psql(
        context: typer.Context,
        role: Annotated[
            str | None, typer.Option(help="Work in this role, for example ledger_analyst.")
        ] = None,
        write: Annotated[
            bool, typer.Option("--write", help="Allow changes; otherwise every transaction is read-only.")
        ] = False,
    ) -> None:
        """Open psql on the database, read-only.

        As the database's owner, who sees everything. All other options and arguments are psql's."""
        from ledger.cli.database import psql

        sys.exit(psql.run_psql(load_settings(), context.args, role=role, write=write))

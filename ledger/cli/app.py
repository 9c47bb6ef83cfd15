"""The command line of the service.

A command imports what only it needs when it runs: the HTTP modules take longer to import than everything that
the other commands need, and those commands include each worker process of a rebuild.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger import __version__
from ledger.cli.accounts import build_accounts_group, build_keys_group
from ledger.cli.alerts.group import build_alerts_group
from ledger.cli.console import build_console_group
from ledger.cli.database.commands import add_database_commands
from ledger.cli.erasure.commands import add_erasure_commands
from ledger.cli.events.listen import add_listen_command
from ledger.cli.events.trigger import add_trigger_command
from ledger.cli.feed.group import build_feed_group
from ledger.cli.groups import (
    CommandGroup,
    JsonOption,
    YesOption,
    format_examples,
    print_json,
    require_consent,
)
from ledger.cli.secrets import build_secrets_group
from ledger.cli.shell import (
    clean_up_at_signals,
    configure_service,
    format_count,
    make_printable,
)
from ledger.cli.webhooks.group import build_webhooks_group
from ledger.config import Settings, find_unknown_settings, load_settings
from ledger.postgres.deployment import migrate_database, open_database
from ledger.postgres.migrations import find_blind_owner
from ledger.service_key import check_service_key

if TYPE_CHECKING:
    from ledger.api.app import Extensions

MakeExtensions = Callable[[Settings], "Extensions"]


def build_cli(make_extensions: MakeExtensions, group_class: type[CommandGroup]) -> typer.Typer:
    """The `ledger` command, a group of class `group_class`. `make_extensions` makes what runs beside the
    API."""
    cli = typer.Typer(
        cls=group_class,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    _add_root(cli)
    _add_service_commands(cli, make_extensions)
    _add_config_command(cli)
    _add_import_command(cli)
    _add_export_command(cli)
    _add_migrate_command(cli)
    _add_openapi_command(cli, make_extensions)
    _add_verify_command(cli)
    _add_witness_command(cli)
    add_database_commands(cli)
    add_erasure_commands(cli)
    add_listen_command(cli)
    add_trigger_command(cli, "ledger trigger")
    cli.add_typer(build_accounts_group(), name="accounts")
    cli.add_typer(build_alerts_group(), name="alerts")
    cli.add_typer(build_console_group(), name="console")
    cli.add_typer(build_feed_group(), name="feed")
    cli.add_typer(build_keys_group(), name="keys")
    cli.add_typer(build_secrets_group(), name="secrets")
    cli.add_typer(build_webhooks_group(), name="webhooks")
    return cli


def _print_unknown_settings() -> None:
    for unknown in find_unknown_settings():
        print(f"ledger: {make_printable(unknown)}", file=sys.stderr)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"ledger {__version__}")
        raise typer.Exit


def _add_root(cli: typer.Typer) -> None:
    @cli.callback(epilog=format_examples("ledger serve", "ledger keys list", "ledger keys create --help"))
    def ledger(
        version: Annotated[
            bool,
            typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
        ] = False,
    ) -> None:
        """An event-sourced ledger that speaks Stripe's wire protocol.

        Its settings are environment variables that begin with LEDGER_; `ledger config` shows them. A command
        that cannot do what it was asked prints one line and exits with status 1, or 2 for wrong arguments."""


def _add_service_commands(cli: typer.Typer, make_extensions: MakeExtensions) -> None:
    @cli.command(epilog=format_examples("ledger serve", "LEDGER_DATA_DIR=/tmp/trial ledger serve --port 0"))
    def serve(
        host: Annotated[str | None, typer.Option(help="Address to listen on (LEDGER_HOST).")] = None,
        port: Annotated[int | None, typer.Option(help="Port to listen on (LEDGER_PORT).")] = None,
    ) -> None:
        """Run the API and the projections.

        The database is an embedded one unless LEDGER_DATABASE_URL is set. LEDGER_WORKERS is the number of API
        processes (default: 1), beside which the projections run in a process of their own; with 0, the
        default on one core, one process does all."""
        from ledger.cli.service import serve

        overrides = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        settings = configure_service(**overrides)
        serve.serve(settings, make_extensions(settings), lambda text: print(text, flush=True))

    @cli.command(epilog=format_examples("ledger api", "LEDGER_WORKERS=4 ledger api"))
    def api() -> None:
        """Run the API without the projections.

        Any number may run on one database."""
        from ledger.cli.service import serve

        settings = configure_service()
        serve.serve_api(settings, make_extensions(settings))

    @cli.command(epilog=format_examples("ledger worker", "LEDGER_LOG_LEVEL=warning ledger worker"))
    def worker() -> None:
        """Run the projections without the API.

        Due dates, webhooks and rebuilds too. Any number may run on one database. With LEDGER_HEALTH_PORT it
        answers /healthz, /readyz and /metrics there."""
        from ledger.cli.service import serve

        settings = configure_service()
        serve.run_worker(settings, make_extensions(settings))


def _add_config_command(cli: typer.Typer) -> None:
    @cli.command(
        epilog=format_examples(
            "ledger config", "ledger config LEDGER_PORT", "ledger config --json | jq '.unknown'"
        )
    )
    def config(
        name: Annotated[str | None, typer.Argument(help="One setting; default: all.")] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show the settings in force and where each comes from.

        Secrets are masked. Nothing is connected to or created. Variables that begin with LEDGER_ and are no
        settings are named on standard error."""
        from ledger.cli import settings

        settings.show_settings(name, as_json=as_json)


def _add_import_command(cli: typer.Typer) -> None:
    @cli.command(
        "import",
        epilog=format_examples(
            "ledger import objects.ndjson", "zcat objects.ndjson.gz | ledger import - --live --json"
        ),
    )
    def import_file(
        file: Annotated[
            Path, typer.Argument(help="An NDJSON file, one object per line; - reads standard input.")
        ],
        account: Annotated[
            str | None, typer.Option(help="The account to import into; optional if there is only one.")
        ] = None,
        live: Annotated[
            bool, typer.Option("--live", help="Import into live mode instead of test mode.")
        ] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print the summary as JSON, one line after the refused ones.")
        ] = False,
    ) -> None:
        """Import objects and Events from a file.

        Prints the lines that are refused, with the reason, as JSON. Importing a file again changes
        nothing."""
        from ledger.cli import import_file

        summary = import_file.run_import(configure_service(), file, account, livemode=live)
        if as_json:
            print(json.dumps(summary.to_json()))
        else:
            print(
                f"{format_count(summary.line_count, 'line')} in {summary.seconds:.1f} s: "
                f"{summary.changed_count} changed, {summary.unchanged_count} unchanged, "
                f"{summary.refused_count} refused.",
                file=sys.stderr,
            )
        if summary.refused_count:
            raise typer.Exit(1)


def _add_export_command(cli: typer.Typer) -> None:
    @cli.command(
        "export",
        epilog=format_examples("ledger export shop.ndjson --unseal", "ledger export - --live | head"),
    )
    def export_file(
        file: Annotated[Path, typer.Argument(help="The file to write, NDJSON; - writes standard output.")],
        account: Annotated[
            str | None, typer.Option(help="The account to export; optional if there is only one.")
        ] = None,
        live: Annotated[bool, typer.Option("--live", help="Export live mode instead of test mode.")] = False,
        unseal: Annotated[
            bool, typer.Option("--unseal", help="With personal data, evidence and files; this is recorded.")
        ] = False,
        force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    ) -> None:
        """Export objects to a file that `ledger import` takes.

        One JSON object a line, as of one position of the log."""
        from ledger.cli import export_file

        with clean_up_at_signals():
            summary = export_file.run_export(file, account, livemode=live, unseal=unseal, overwrite=force)
        for text in export_file.describe(summary):
            print(text, file=sys.stderr)


def _add_migrate_command(cli: typer.Typer) -> None:
    @cli.command("migrate", epilog=format_examples("ledger migrate", "ledger migrate --contract"))
    def migrate_schema(
        contract: Annotated[
            bool,
            typer.Option(
                "--contract", help="Let no older release start any more; stop all older processes first."
            ),
        ] = False,
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Upgrade the database to this release.

        With --contract it asks first: there is no way back to an older release then."""
        settings = load_settings()
        _print_unknown_settings()
        if contract:
            require_consent("No older release can start on this database afterwards.", yes=yes)
        with open_database(settings) as (dsn, configured):
            kept = migrate_database(settings, dsn, contract=contract)
            check_service_key(settings, dsn, configured)
            owner = find_blind_owner(dsn)
        if owner is not None:
            print(
                "ledger: ledger_oldest_snapshot_seconds leaves out the sessions of other users: "
                f"GRANT pg_read_all_stats TO {owner} (docs/operations.md, An old snapshot)",
                file=sys.stderr,
            )
        if as_json:
            print_json({"contract": contract, "rebuild_and_retire": kept})
            return
        print("The schema is up to date.")
        if contract:
            print("Older releases do not start any more.")
        if kept:
            print(f"To save disk, rebuild and retire, then run this again: {', '.join(kept)}.")


def _add_openapi_command(cli: typer.Typer, make_extensions: MakeExtensions) -> None:
    @cli.command(
        "openapi",
        epilog=format_examples(
            "ledger openapi > openapi.json", "ledger openapi --path /internal/v1 --path /v1/events"
        ),
    )
    def print_openapi(
        paths: Annotated[
            list[str] | None,
            typer.Option("--path", help="Only paths that begin so, such as /internal/v1; may be repeated."),
        ] = None,
    ) -> None:
        """Print the OpenAPI document, without a database.

        It is that of GET /openapi.json, for generators of clients: clients/README.md."""
        from ledger.cli import openapi

        settings = load_settings()
        print(openapi.format_document(settings, make_extensions(settings), paths or ()))


def _add_verify_command(cli: typer.Typer) -> None:
    @cli.command(
        epilog=format_examples(
            "ledger verify event.tlog-proof --policy policy.txt",
            "ledger verify event.tlog-proof --policy policy.txt --record event.record --json",
        )
    )
    def verify(
        file: Annotated[Path, typer.Argument(help="A proof file (.tlog-proof).")],
        policy: Annotated[
            Path, typer.Option(help="The keys of the logs and witnesses to trust (C2SP tlog-policy).")
        ],
        entry: Annotated[
            str | None, typer.Option(help="The entry in hexadecimal, for a proof file without its record.")
        ] = None,
        record: Annotated[
            Path | None, typer.Option(help="A file with the record in its canonical form.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Verify a proof file, without database and network.

        It needs no settings. Prints what is proven; personal data stays encrypted. Exits with 1 when it is
        not proven."""
        from ledger.cli import proof_verification

        print(proof_verification.verify(file, policy, entry, record, as_json=as_json))


def _add_witness_command(cli: typer.Typer) -> None:
    @cli.command(
        "witness",
        epilog=format_examples(
            "ledger witness --data /var/lib/witness --print-key",
            "ledger witness --data /var/lib/witness --logs logs.txt --host 0.0.0.0",
        ),
    )
    def run_witness(
        data: Annotated[Path, typer.Option("--data", help="Directory of its key, checkpoints and evidence.")],
        log: Annotated[
            list[str] | None, typer.Option("--log", help="The verifier key of a log to watch.")
        ] = None,
        logs: Annotated[
            Path | None, typer.Option("--logs", help="A file of verifier keys, one a line.")
        ] = None,
        host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="Port to listen on.")] = 4243,
        name: Annotated[
            str | None, typer.Option(help="Name of the key that the first start makes; default: random.")
        ] = None,
        ml_dsa: Annotated[bool, typer.Option("--ml-dsa", help="Cosign with an ML-DSA-44 key, too.")] = False,
        print_key: Annotated[
            bool, typer.Option("--print-key", help="Print the verifier keys to configure, and exit.")
        ] = False,
    ) -> None:
        """Run a witness of other ledgers' logs (C2SP tlog-witness).

        It cosigns a log's checkpoint only if that continues the last one, and keeps evidence of what does
        not. It needs no database. A log named other than its key is written as: origin, space, key."""
        from ledger.cli import witness

        if print_key:
            witness.print_keys(data, name, with_ml_dsa=ml_dsa)
            return
        configure_service()
        texts = witness.read_logs(log or [], logs)
        witness.serve_witness(texts, data, name, host, port, with_ml_dsa=ml_dsa)

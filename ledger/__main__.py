"""The `ledger` command: the service's own command line, with the projections that follow its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.cli import app
from ledger.config import Settings
from projections.operate import cli

if TYPE_CHECKING:
    from ledger.api.app import Extensions


def main() -> None:
    """Run the command line."""
    cli_app = app.build_cli(_make_extensions)
    cli_app.add_typer(cli.build_group(), name="projections")
    app.run_cli(cli_app)


def _make_extensions(settings: Settings) -> Extensions:
    from projections.composition import make_extensions

    return make_extensions(settings)


if __name__ == "__main__":
    main()

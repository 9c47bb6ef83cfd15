"""The `ledger` command: the service's own command line, with the projections that follow its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.cli import app
from ledger.config import Settings
from projections.operate import cli

if TYPE_CHECKING:
    from ledger.api.app import Above


def main() -> None:
    """Run the command line."""
    command = app.build(_above)
    command.add_typer(cli.build(), name="projections")
    app.run(command)


def _above(settings: Settings) -> Above:
    from projections.composition import above

    return above(settings)


if __name__ == "__main__":
    main()

"""The `ledger` command: the service's own command line, with the projections that follow its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger import cli
from ledger.config import Settings
from projections import commands

if TYPE_CHECKING:
    from ledger.api.app import Above


def main() -> None:
    """Run the command line."""
    command = cli.build(_above)
    command.add_typer(commands.build(), name="projections")
    cli.run(command)


def _above(settings: Settings) -> Above:
    from projections.composition import above

    return above(settings)


if __name__ == "__main__":
    main()

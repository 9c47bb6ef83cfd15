"""The `ledger` command: the service's own command line, and `ledger projections` for its read models."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from ledger.cli.app import build_cli
from ledger.cli.groups import CommandGroup
from ledger.cli.run import run_cli
from ledger.config import Settings

if TYPE_CHECKING:
    from ledger.api.app import Extensions

GC_THRESHOLD_OBJECTS = 100_000
"""Objects made before the garbage collector runs: more than a command imports. They are modules, classes and
functions, which are never freed; searching them for garbage again and again would take a twelfth of the
start-up time."""

_PROJECTIONS = "projections"
_AUDIT = "audit"
_EVENTS = "events"


class LedgerGroup(CommandGroup):
    """The group of all commands. It imports the groups `audit`, `events` and `projections` only when they are
    called or listed: their imports take longer than everything else that `ledger keys` or `ledger migrate`
    needs to start."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order in which --help shows them."""
        return [*super().list_commands(ctx), _AUDIT, _EVENTS, _PROJECTIONS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, or None."""
        if cmd_name == _PROJECTIONS:
            from projections.operate import cli

            return get_command(cli.build_group())
        if cmd_name == _AUDIT:
            from ledger.cli.audit import group

            return get_command(group.build_group())
        if cmd_name == _EVENTS:
            from ledger.cli.events.group import build_events_group

            return get_command(build_events_group())
        return super().get_command(ctx, cmd_name)


def main() -> None:
    """Run the command line."""
    gc.set_threshold(GC_THRESHOLD_OBJECTS)
    run_cli(build_cli(_make_extensions, LedgerGroup))


def _make_extensions(settings: Settings) -> Extensions:
    from projections.composition import make_extensions

    return make_extensions(settings)


if __name__ == "__main__":
    main()

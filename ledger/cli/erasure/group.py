"""The group `ledger erase …`."""

from __future__ import annotations

from typing import Any

import typer

from ledger.cli.erasure.certificates import add_certificate_command
from ledger.cli.erasure.exports import build_exports_group
from ledger.cli.erasure.jobs import add_job_commands
from ledger.cli.erasure.replay import add_replay_command
from ledger.cli.groups import CommandGroup, build_group

_HELP = ("-h", "--help")


class _EraseGroup(CommandGroup):
    """The group, in which `ledger erase CUSTOMER` is short for `ledger erase object CUSTOMER`: every id that
    the service makes has an underscore, and no command has one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split off the command and its arguments."""
        if args and args[0] not in _HELP and ("_" in args[0] or args[0].startswith("-")):
            args = ["object", *args]
        return super().parse_args(ctx, args)


def build_erase_group() -> typer.Typer:
    """The group with all its commands."""
    group = build_group(
        "Erase a person's data, and show that it was done.",
        "ledger erase cus_0352CZ3z1jWpJM7B8upbma --why 'request 4711'",
        "ledger erase show prj_0352CZ3z1jWpJM7B8upbma",
        "ledger erase certificate prj_0352CZ3z1jWpJM7B8upbma --out /srv/erasures",
        "ledger erase exports list",
        group_class=_EraseGroup,
    )
    add_job_commands(group)
    add_certificate_command(group)
    add_replay_command(group)
    group.add_typer(build_exports_group(), name="exports")
    return group

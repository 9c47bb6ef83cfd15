"""The group `ledger erase …`."""

from __future__ import annotations

import typer

from ledger.cli.erasure.certificates import add_certificate_command
from ledger.cli.erasure.exports import build_exports_group
from ledger.cli.groups import build_group


def build_erase_group() -> typer.Typer:
    """The group with all its commands."""
    group = build_group(
        "Erase a person's data, and show that it was done.",
        "ledger erase certificate prj_0352CZ3z1jWpJM7B8upbma --out /srv/erasures",
        "ledger erase exports list",
    )
    add_certificate_command(group)
    group.add_typer(build_exports_group(), name="exports")
    return group

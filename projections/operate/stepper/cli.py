"""`ledger projections step`: its options. What it does is imported when it is called: that is much, and other
commands of the group start without it."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.cli.groups import JsonOption
from projections.operate.shell import NameArgument


def step(
    name: NameArgument,
    position: Annotated[int | None, typer.Option(min=1, help="Position of the event.")] = None,
    after: Annotated[int | None, typer.Option(min=0, help="The next event after this position.")] = None,
    before: Annotated[int | None, typer.Option(min=0, help="The last event before this position.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only events of this object.")] = None,
    personal_data: Annotated[
        bool, typer.Option("--personal-data", help="Show personal data, which is otherwise left out.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one event and the rows before and after it.

    By default the last event that the projection follows. Nothing is written; that it was shown is on record.
    """
    from projections.operate.stepper.places import StepQuery
    from projections.operate.stepper.shell import show_step

    query = StepQuery(position, after, before, stream)
    show_step(name, query, shows_personal_data=personal_data, as_json=as_json)

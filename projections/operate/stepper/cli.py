"""`ledger projections step`: one event through a projection, in a shell."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ledger.audit.accesses import WHOLE_LOG
from ledger.cli.audit.shell import PersonalOption, record_as, record_command
from ledger.cli.groups import JsonOption, print_json
from ledger.cli.shell import CLI_ACTOR, Deployment, make_printable, print_table
from ledger.postgres.connections import Pool
from ledger.store.codec import Codec
from projections.operate.actions import get_projection
from projections.operate.shell import CommandContext, NameArgument, run
from projections.operate.stepper.places import StepQuery
from projections.operate.stepper.step import Step, Viewer, load_step

VALUE_LENGTH_MAX = 60


def step(
    name: NameArgument,
    position: Annotated[int | None, typer.Option(min=1, help="Position of the event.")] = None,
    after: Annotated[int | None, typer.Option(min=0, help="The next event after this position.")] = None,
    before: Annotated[int | None, typer.Option(min=0, help="The last event before this position.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only events of this object.")] = None,
    personal_data: PersonalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show one event and the rows before and after it.

    By default the last event that the projection follows. Nothing is written; that it was shown is on record.
    """
    query = StepQuery(position, after, before, stream)
    parameters = {"projection": name, **query._asdict(), "personal_data": personal_data}
    with record_as("projections step", parameters):
        found = run(lambda context: _load(context, name, query, personal_data))
    if as_json:
        print_json(found.to_json())
    else:
        _print_step(found)


async def _load(context: CommandContext, name: str, query: StepQuery, personal_data: bool) -> Step:
    projection = get_projection(name)
    query.check()
    deployment = Deployment(context.settings, context.dsn, context.key)
    async with Pool(context.dsn) as pool:
        await record_command(pool, context.clock, deployment, WHOLE_LOG, livemode=False)

    async def can_see(account: str, livemode: bool) -> bool:
        return True

    viewer = Viewer(CLI_ACTOR, can_see, personal_data)
    codec = Codec(context.key)
    return await load_step(context.conn, codec, context.clock.now(), projection, query, viewer)


def _print_step(step: Step) -> None:
    place, event = step.place, step.event
    if event is not None:
        print(
            f"{event['position']}  {event['time']}  {event['type']}  {event['stream']} "
            f"(version {event['version']})"
        )
    print(step.outcome.message)
    print_table(
        ("row", "value", "before", "after"),
        [(change.key, change.path, *map(_shorten, _get_values(change.to_json()))) for change in step.changes],
    )
    if step.live is not None:
        print(f"live: {step.live.message}")
        for difference in step.live.differences:
            print(f"live: {make_printable(difference.key)} differs")
    print(f"previous: {place.previous or '-'}  next: {place.next or '-'}  head: {place.head}")


def _get_values(change: dict[str, Any]) -> tuple[str, str]:
    if change.get("personal_data"):
        return "(personal data)", "(personal data)"
    return tuple(json.dumps(change[name], ensure_ascii=False) for name in ("before", "after"))  # type: ignore[return-value]


def _shorten(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[: VALUE_LENGTH_MAX - 1]}…"

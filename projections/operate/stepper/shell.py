"""A step in a shell: recorded as an access, then printed as a table of changes or as JSON."""

from __future__ import annotations

import json
from typing import Any

from ledger.audit.accesses import WHOLE_LOG
from ledger.cli.audit.shell import record_as, record_command
from ledger.cli.groups import print_json
from ledger.cli.shell import CLI_ACTOR, Deployment, make_printable, print_table
from ledger.postgres.connections import Pool
from ledger.store.codec import Codec
from projections.operate.actions import get_projection
from projections.operate.shell import CommandContext, run
from projections.operate.stepper.places import StepQuery
from projections.operate.stepper.step import Step, Viewer, load_step

VALUE_LENGTH_MAX = 60


def show_step(name: str, query: StepQuery, *, shows_personal_data: bool, as_json: bool) -> None:
    """Print the step of a projection, and record that it was shown. Raises as `run` does."""
    parameters = {"projection": name, **query._asdict(), "personal_data": shows_personal_data}
    with record_as("projections step", parameters):
        found = run(lambda context: _load(context, name, query, shows_personal_data))
    if as_json:
        print_json(found.to_json())
    else:
        _print_step(found)


async def _load(context: CommandContext, name: str, query: StepQuery, personal_data: bool) -> Step:
    projection = get_projection(name)
    query.check()
    deployment = Deployment(context.settings, context.dsn, context.service_keys)
    async with Pool(context.dsn) as pool:
        await record_command(pool, context.clock, deployment, WHOLE_LOG, livemode=False)

    async def can_see(account: str, livemode: bool) -> bool:
        return True

    viewer = Viewer(CLI_ACTOR, can_see, personal_data)
    codec = Codec(context.service_keys)
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

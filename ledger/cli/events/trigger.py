"""`ledger trigger`, which is `ledger events trigger` too: makes an Event for real, in test mode."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli.groups import JsonOption, format_examples, print_json
from ledger.cli.shell import Deployment, open_deployment
from ledger.errors import SettingError

if TYPE_CHECKING:
    from ledger.cli.events.scenario_run import ScenarioResult

EventTypesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="EVENT_TYPE", help="The types of Events to make; see --list."),
]
AccountOption = Annotated[
    str | None, typer.Option("--account", help="The account; optional if there is only one.")
]


def add_trigger_command(group: typer.Typer, path: str) -> None:
    """Add `trigger` to a group; `path` is how it is called there: `ledger trigger`."""

    @group.command(
        "trigger",
        epilog=format_examples(
            f"{path} charge.dispute.created",
            f"{path} --list",
            f"{path} charge.refunded --account acct_0352CZ3z1jWpJM --json",
        ),
    )
    def trigger(
        event_types: EventTypesArgument = None,
        account: AccountOption = None,
        list_types: Annotated[bool, typer.Option("--list", help="Print the types that can be made.")] = False,
        live: Annotated[bool, typer.Option("--live", hidden=True)] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Make an Event in test mode, by what leads to one.

        It runs the commands of the service that an application or the card network would cause, so the
        objects are there afterwards, and endpoints and listeners get the Event. With --json it prints a
        line for each type."""
        if live:
            raise SettingError("--live: Events are triggered in test mode only")
        if list_types:
            _print_types(as_json=as_json)
            return
        if not event_types:
            raise SettingError("EVENT_TYPE: required; --list prints the types that can be made")
        _trigger([_check_type(event_type) for event_type in event_types], account, as_json=as_json)


def _print_types(*, as_json: bool) -> None:
    from ledger.cli.events.scenarios import SCENARIOS

    if as_json:
        print_json({"data": list(SCENARIOS)})
    else:
        print(*SCENARIOS, sep="\n")


def _check_type(event_type: str) -> str:
    """The type, if there is a scenario for it. Raises SettingError with the nearest ones."""
    from ledger.cli.events.scenarios import SCENARIOS
    from ledger.wire.event_types import EVENT_TYPES
    from ledger.wire.suggestions import find_nearest

    event_type = event_type.removeprefix("v1.")
    if event_type in SCENARIOS:
        return event_type
    if event_type in EVENT_TYPES:
        raise SettingError(
            f"EVENT_TYPE {event_type}: the ledger makes no such Event by itself; --list prints those it makes"
        )
    family = [known for known in SCENARIOS if known.startswith(event_type.rstrip("*").rstrip(".") + ".")]
    nearest = find_nearest(event_type, SCENARIOS)
    hint = f"one of {', '.join(family)}" if family else nearest
    text = f"did you mean {hint}?" if hint else "--list prints the types that can be made"
    raise SettingError(f"EVENT_TYPE {event_type}: no such type; {text}")


def _trigger(event_types: list[str], account: str | None, *, as_json: bool) -> None:
    from ledger.cli.events.scenario_run import run_scenarios

    async def run(deployment: Deployment) -> None:
        results = run_scenarios(deployment, event_types, account)
        async with aclosing(results):
            async for result in results:
                _print_result(result, as_json=as_json)

    with open_deployment() as deployment:
        asyncio.run(run(deployment))


def _print_result(result: ScenarioResult, *, as_json: bool) -> None:
    if as_json:
        objects = [{"object": name, "id": object_id} for name, object_id in result.objects]
        events = [event._asdict() for event in result.events]
        print(json.dumps({**result._asdict(), "events": events, "objects": objects}), flush=True)
        return
    for step in result.steps:
        print(step)
    width = max(len(event.type) for event in result.events)
    for event in result.events:
        mark = "  <- as asked" if event.id == result.event else ""
        print(f"{event.type:{width}}  {event.id}  {event.object}{mark}", flush=True)

"""`ledger audit object`, `history` and `diff`: one object of the past, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ledger.audit.history import Order, read_history
from ledger.audit.objects import compare_object, read_object
from ledger.cli.audit.shell import AccountOption, LiveOption, PersonalOption, run
from ledger.cli.groups import JsonOption
from ledger.cli.shell import format_count, make_printable

ObjectArgument = Annotated[str, typer.Argument(help="The id of the object.")]
_MOMENT = "A unix time, an ISO 8601 time or position:N."

_OLD, _NEW, _QUIET = "red", "green", "dim"


def show_object(
    object_id: ObjectArgument,
    at: Annotated[str | None, typer.Option("--at", help=f"{_MOMENT} Default: now.")] = None,
    expand: Annotated[
        list[str] | None, typer.Option("--expand", help="A member to expand, as on the API; repeatable.")
    ] = None,
    account: AccountOption = None,
    live: LiveOption = False,
    personal_data: PersonalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print an object as it was at a moment.

    As the public API showed it then, also after its deletion. File URLs have no host."""
    answer = run(
        lambda queries, auditor: read_object(queries, auditor, object_id, at, expand_paths=expand or ()),
        account=account, livemode=live, shows_personal_data=personal_data,
    )  # fmt: skip
    if as_json:
        print(json.dumps(answer))
        return
    console = _open_console()
    as_of = answer["as_of"]
    console.print(
        f"{make_printable(object_id)} as of {as_of['time']}, position {as_of['position']}, "
        f"version {as_of['version']}",
        style="bold",
    )
    for line in json.dumps(answer["object"], indent=2, ensure_ascii=False).split("\n"):
        console.print(make_printable(line))


def show_history(
    object_id: ObjectArgument,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Changes to print.")] = 100,
    starting_after: Annotated[
        int | None, typer.Option(help="The position of the last change that was printed before.")
    ] = None,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin with the last change.")] = False,
    account: AccountOption = None,
    live: LiveOption = False,
    personal_data: PersonalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print every change of an object.

    When, who made it and why, what it changed, and its Events. Why a webhook endpoint was disabled,
    if the ledger did it."""
    order: Order = "desc" if newest_first else "asc"
    page = run(
        lambda queries, auditor: read_history(
            queries, auditor, object_id, limit=limit, starting_after=starting_after, order=order
        ),
        account=account, livemode=live, shows_personal_data=personal_data,
    )  # fmt: skip
    if as_json:
        print(json.dumps(page))
        return
    console = _open_console()
    for change in page["data"]:
        _print_change(console, change)
    if page["has_more"]:
        console.print(f"There is more: --starting-after {page['data'][-1]['position']}")


def show_diff(
    object_id: ObjectArgument,
    start: Annotated[str, typer.Option("--from", help=_MOMENT)],
    end: Annotated[str | None, typer.Option("--to", help=f"{_MOMENT} Default: now.")] = None,
    account: AccountOption = None,
    live: LiveOption = False,
    personal_data: PersonalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print what differs between two moments of an object."""
    answer = run(
        lambda queries, auditor: compare_object(queries, auditor, object_id, start, end),
        account=account, livemode=live, shows_personal_data=personal_data,
    )  # fmt: skip
    if as_json:
        print(json.dumps(answer))
        return
    console = _open_console()
    for sign, name, style in (("---", "from", _OLD), ("+++", "to", _NEW)):
        moment = answer["as_of"][name]
        console.print(
            f"{sign} {make_printable(object_id)} {moment['time']}, position {moment['position']}, "
            f"version {moment['version']}",
            style=style,
        )
    _print_differences(console, answer["changes"], indent="")
    console.print(format_count(len(answer["changes"]), "difference"), style=_QUIET)


def _print_change(console: Console, change: dict[str, Any]) -> None:
    """One entry of the timeline."""
    head = Text.assemble(
        ("● ", "bold"), change["time"], "  ", (change["type"], "bold"),
        (f"  position {change['position']}, version {change['version']}", _QUIET),
    )  # fmt: skip
    console.print(head)
    console.print(Text(f"│ {make_printable(_describe_cause(change))}", style="cyan"))
    for event in change["events"]:
        console.print(Text(f"│ Event {event['id']} {make_printable(event['type'])}", style=_QUIET))
    _print_differences(console, change["changes"], indent="│   ")
    for name, value in change["details"].items():
        if value is not None:
            console.print(f"│   {name}: {make_printable(json.dumps(value, ensure_ascii=False))}")


def _print_differences(console: Console, differences: Sequence[dict[str, Any]], *, indent: str) -> None:
    for difference in differences:
        path = make_printable(difference["path"] or "(the object)")
        if difference.get("personal_data"):
            console.print(Text.assemble(indent, (f"± {path}: personal data", "yellow")))
            continue
        if difference.get("redacted") and difference["before"] == difference["after"]:
            console.print(Text.assemble(indent, (f"± {path}: redacted", "yellow")))
            continue
        for sign, value, style in (("-", difference["before"], _OLD), ("+", difference["after"], _NEW)):
            if value is not None:
                shown = make_printable(json.dumps(value, ensure_ascii=False))
                console.print(Text.assemble(indent, (f"{sign} {path}: {shown}", style)))


def _describe_cause(change: dict[str, Any]) -> str:
    """Who made the change, by which request and why."""
    actor, causation = change["actor"], change["causation"]
    parts = []
    if actor is None:
        parts.append("by the clock")
    elif actor["key"] is None:
        parts.append(f"by {actor['id']}")
    else:
        parts.append(f"by {actor['name'] or actor['id']} ({actor['key']})")
    if change["request_id"]:
        parts.append(f"request {change['request_id']}")
    if change["idempotency_key"]:
        parts.append(f"idempotency key {change['idempotency_key']}")
    if causation is not None and causation["type"] == "network_fact":
        parts.append(f"network fact {causation['reference']}")
    elif causation is not None and causation["type"] == "import":
        parts.append(f"import by request {causation['request_id']}")
    elif causation is not None and causation["type"] == "change":
        parts.append(f"because of {causation['object']}, version {causation['version']}")
    elif causation is not None and causation["type"] == "event":
        parts.append(f"in reaction to {causation['event']}")
    return ", ".join(parts)


def _open_console() -> Console:
    """Prints in colour to a terminal, plainly elsewhere; never interprets or wraps what is printed."""
    return Console(markup=False, highlight=False, soft_wrap=True, emoji=False)

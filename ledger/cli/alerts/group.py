"""The group `ledger alerts …`: what is wrong with the service, and closing an alert by hand."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger.cli.alerts.receivers import build_receivers_group
from ledger.cli.groups import JsonOption, build_group, format_examples, print_json
from ledger.cli.shell import (
    Deployment,
    format_time,
    get_shell_user,
    make_printable,
    print_table,
    run_change,
    run_with_connection,
)
from ledger.clock import Clock
from ledger.errors import SettingError
from ledger.postgres.connections import Conn

LIMIT_MAX = 1000
_ALERT = "alrt_0352CZ3z1jWpJM7B8upbma"

AlertArgument = Annotated[str, typer.Argument(help="The id of an alert (alrt_…).")]


def build_alerts_group() -> typer.Typer:
    """The group with all its commands."""
    group = build_group(
        "See and clear alerts, and say who is told of them.",
        "ledger alerts list",
        f"ledger alerts clear {_ALERT} --reason 'the receiver is being moved'",
        "ledger alerts receivers add https://alerts.example.com/hook",
    )
    _add_list_command(group)
    _add_show_command(group)
    _add_clear_command(group)
    group.add_typer(build_receivers_group(), name="receivers")
    return group


def _add_list_command(group: typer.Typer) -> None:
    @group.command(
        "list", epilog=format_examples("ledger alerts list", "ledger alerts list --ended --limit 50 --json")
    )
    def list_command(
        ended: Annotated[
            bool, typer.Option("--ended", help="Those that were resolved or cleared, instead of active ones.")
        ] = False,
        limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="At most so many.")] = 100,
        as_json: JsonOption = False,
    ) -> None:
        """List what is wrong with the service, newest first."""
        from ledger.alerts.records import list_alerts, read_look_age

        async def read(conn: Conn, _: Clock) -> dict[str, Any]:
            page, has_more = await list_alerts(conn, state="ended" if ended else "active", limit=limit)
            return {"data": page, "has_more": has_more, "looked_seconds_ago": await read_look_age(conn)}

        found = run_with_connection(read)
        if as_json:
            print_json(found)
            return
        print_table(
            ["id", "severity", "state", "raised", "what is wrong"],
            [
                (each["id"], each["severity"], each["state"], format_time(each["raised_at"]), each["summary"])
                for each in found["data"]
            ],
        )


def _add_show_command(group: typer.Typer) -> None:
    @group.command(
        "show", epilog=format_examples(f"ledger alerts show {_ALERT}", f"ledger alerts show {_ALERT} --json")
    )
    def show(alert: AlertArgument, as_json: JsonOption = False) -> None:
        """Show an alert: its cause, what to do, and whom it was sent to."""
        from ledger.alerts.records import get_alert

        found = run_with_connection(lambda conn, _: get_alert(conn, alert))
        _print_alert(found, as_json)


def _add_clear_command(group: typer.Typer) -> None:
    @group.command(
        "clear",
        epilog=format_examples(f"ledger alerts clear {_ALERT} --reason 'the receiver is being moved'"),
    )
    def clear(
        alert: AlertArgument,
        reason: Annotated[str, typer.Option(help="Why; it is kept on record.")],
        as_json: JsonOption = False,
    ) -> None:
        """Close an alert by hand while its condition lasts.

        It is not raised again before the condition has ended once, or becomes more severe."""
        from ledger.alerts.records import REASON_LENGTH_MAX, Actor, clear_alert, get_alert

        if not 0 < len(reason) <= REASON_LENGTH_MAX:
            raise SettingError(f"--reason: must have 1 to {REASON_LENGTH_MAX} characters")

        async def change(conn: Conn, _: Clock, __: Deployment) -> dict[str, Any]:
            await clear_alert(conn, alert, Actor(get_shell_user(), "*", reason))
            return await get_alert(conn, alert)

        _print_alert(run_change(change), as_json)


def _print_alert(alert: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(alert)
        return
    print(f"{alert['id']}: {alert['severity']}, {alert['state']}")
    print(f"  {make_printable(alert['summary'])}")
    print(f"  Cause: {make_printable(alert['cause'])}")
    print(f"  What to do: {alert['remedy']['action']} ({alert['remedy']['see']})")
    for event in alert["events"]:
        by = f" by {make_printable(event['who'])}: {make_printable(event['reason'])}" if event["who"] else ""
        print(f"  {format_time(event['at'])} {event['type']} ({event['severity']}){by}")
        for notice in event["notices"]:
            answer = notice["error"] or notice["status"] or "no attempt yet"
            print(f"    {notice['receiver']} {notice['host']}: {notice['state']}, {answer}")

"""Whether webhooks are sent; pause and resume them, beside a running service or not."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ledger.cli.groups import (
    JsonOption,
    ReasonOption,
    YesOption,
    format_examples,
    print_json,
    require_consent,
)
from ledger.cli.shell import (
    Deployment,
    format_count,
    format_time,
    get_shell_user,
    make_printable,
    run_change,
    run_with_deployment,
)
from ledger.clock import Clock
from ledger.errors import SettingError
from ledger.postgres.connections import Conn

if TYPE_CHECKING:
    from ledger.metrics.backlogs import FailingEndpoint
    from ledger.webhooks.deliveries import PendingDeliveries
    from ledger.webhooks.switch import OffReason, Switch

FANOUT_WAIT_SECONDS = 10.0
FANOUT_POLL_SECONDS = 0.1


class _Status(NamedTuple):
    switch: Switch
    off: list[OffReason]
    pending: PendingDeliveries
    failing_count: int
    failing: list[FailingEndpoint]


def add_switch_commands(group: typer.Typer) -> None:
    """Add `status`, `pause` and `resume`."""
    _add_status_command(group)
    _add_pause_command(group)
    _add_resume_command(group)


def _add_status_command(group: typer.Typer) -> None:
    @group.command(
        "status", epilog=format_examples("ledger webhooks status", "ledger webhooks status --json")
    )
    def status(as_json: JsonOption = False) -> None:
        """Show whether webhooks are sent, and what fails."""
        _print_status(run_with_deployment(_read_status), as_json)


def _add_pause_command(group: typer.Typer) -> None:
    @group.command(
        "pause",
        epilog=format_examples(
            "ledger webhooks pause --reason 'a receiver is being moved'",
            "ledger webhooks pause --copy --reason 'restore drill'",
        ),
    )
    def pause(
        reason: ReasonOption = "",
        copy: Annotated[
            bool,
            typer.Option(
                "--copy",
                help="This database is a copy: let due dates, checkpoints and witnesses wait as well.",
            ),
        ] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Send no webhooks until `ledger webhooks resume`.

        All workers obey within a second; attempts under way end. What is pending stays pending."""
        from ledger.webhooks import switch

        async def change(conn: Conn, clock: Clock, deployment: Deployment) -> _Status:
            before = await switch.read_switch(conn)
            is_so = before.action == "declare_copy" if copy else not before.sends
            if reason or not is_so:  # the reason on record is not lost to a pause without one
                await (switch.declare_copy if copy else switch.pause)(conn, get_shell_user(), reason)
            return await _read_status(conn, clock, deployment)

        _print_status(run_change(change), as_json)


def _add_resume_command(group: typer.Typer) -> None:
    @group.command(
        "resume",
        epilog=format_examples(
            "ledger webhooks resume", "ledger webhooks resume --drop-pending --yes --reason 'drill has ended'"
        ),
    )
    def resume(
        reason: ReasonOption = "",
        drop_pending: Annotated[
            bool, typer.Option("--drop-pending", help="Give up what is pending now instead of sending it.")
        ] = False,
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Send webhooks again.

        A copy becomes the database that acts: due dates, checkpoints and witnesses no longer wait either."""
        from ledger.webhooks import switch
        from ledger.webhooks.deliveries import drop_pending as drop

        async def change(conn: Conn, clock: Clock, deployment: Deployment) -> _Status:
            before = await _read_status(conn, clock, deployment)
            if before.switch.is_active and before.switch.sends:
                if drop_pending:
                    raise SettingError("--drop-pending: webhooks are on, so nothing waits to be resumed")
                return before
            upto = await _wait_for_fanout(conn, clock, deployment) if drop_pending else 0
            _ask_before_resume(before, drop_pending=drop_pending, yes=yes)
            async with conn.transaction():
                dropped = await drop(conn, upto, clock.now()) if drop_pending else 0
                pending = await _count(conn, clock)
                details = {"dropped": dropped, "pending": pending.deliveries, "due": pending.due}
                await switch.resume(conn, get_shell_user(), reason, details)
            if drop_pending:
                print(f"{format_count(dropped, 'delivery', 'deliveries')} given up.", file=sys.stderr)
            return await _read_status(conn, clock, deployment)

        _print_status(run_change(change), as_json)


async def _read_status(conn: Conn, clock: Clock, deployment: Deployment) -> _Status:
    from ledger.webhooks.health import read_failing
    from ledger.webhooks.switch import read_switch

    switch = await read_switch(conn)
    off = switch.list_off_reasons(deployment.settings.webhooks)
    return _Status(switch, off, await _count(conn, clock), *await read_failing(conn, clock.now()))


async def _count(conn: Conn, clock: Clock) -> PendingDeliveries:
    from ledger.webhooks.deliveries import count_pending

    return await count_pending(conn, clock.now())


async def _wait_for_fanout(conn: Conn, clock: Clock, deployment: Deployment) -> int:
    """Wait until all Events recorded so far have their deliveries: those that come later would be sent.
    Returns the last position. Raises SettingError when nobody makes them."""
    upto = (await _count(conn, clock)).head
    deadline = asyncio.get_running_loop().time() + FANOUT_WAIT_SECONDS
    while (pending := await _count(conn, clock)).fanned_out < upto:
        if asyncio.get_running_loop().time() > deadline:
            raise SettingError(
                f"--drop-pending: {format_count(upto - pending.fanned_out, 'recorded event')} may still make "
                "deliveries: start a worker, and repeat this when `ledger webhooks status` shows none"
            )
        await asyncio.sleep(FANOUT_POLL_SECONDS)
    return upto


def _ask_before_resume(status: _Status, *, drop_pending: bool, yes: bool) -> None:
    """Ask before what cannot be undone: making a copy act, and giving up deliveries. Raises SettingError when
    the answer is no, and where there is nobody to ask."""
    if status.switch.is_active and not drop_pending:
        return
    pending = status.pending
    due = format_count(pending.due, "delivery", "deliveries")
    effect = (
        f"{format_count(pending.deliveries, 'pending delivery', 'pending deliveries')} would be given up"
        if drop_pending
        else f"{due} to {format_count(pending.due_endpoints, 'endpoint')} would be sent at once"
    )
    consequence = f"{effect[0].upper()}{effect[1:]}."
    if not status.switch.is_active:
        consequence = (
            "This database is a copy. It becomes the one that acts: it sends webhooks, acts on due dates, "
            "signs checkpoints and asks witnesses. Stop the other one before. If that one recorded anything "
            "after the copy was made, first let the log go on under another name: "
            f"ledger audit rotate-key --new-origin NAME. {consequence}"
        )
    require_consent(consequence, yes=yes)


def _print_status(status: _Status, as_json: bool) -> None:
    switch, off, pending, failing_count, failing = status
    waiting_events = max(0, pending.head - pending.fanned_out)
    if as_json:
        last_change = {"action": switch.action, "who": switch.who, "reason": switch.reason, "at": switch.at}
        counts = {
            "pending": pending.deliveries,
            "endpoints": pending.endpoints,
            "due": pending.due,
            "due_endpoints": pending.due_endpoints,
            "events_without_deliveries_yet": waiting_events,
            "failing_endpoints": failing_count,
            "failing": [each._asdict() for each in failing],
        }
        print_json({"off": off, "last_change": last_change, **counts})
        return
    print("Webhooks are off:" if off else "Webhooks are on.")
    for reason in off:
        print(f"  {_explain(reason, switch)}")
    deliveries = format_count(pending.deliveries, "delivery", "deliveries")
    print(
        f"Pending: {deliveries} to {format_count(pending.endpoints, 'endpoint')}, {pending.due} of them due."
    )
    if waiting_events:
        print(f"{format_count(waiting_events, 'recorded event')} not turned into deliveries yet.")
    for each in failing:
        print(_describe_failure(each))
    if failing_count > len(failing):
        print(f"{failing_count - len(failing)} more fail.")


def _describe_failure(failing: FailingEndpoint) -> str:
    """One line, without the URL, which may have a token in it."""
    reason = failing.error or f"status {failing.status}"
    mode = "live" if failing.livemode else "test"
    pause = "" if failing.retry_at is None else f"; paused, tried again at {format_time(failing.retry_at)}"
    return (
        f"Failing: {failing.endpoint} of {failing.account} ({mode}) since {format_time(failing.since)}: "
        f"{reason}; {format_count(failing.attempts, 'attempt')}, {failing.pending} pending, "
        f"{failing.given_up} given up{pause}."
    )


def _explain(reason: OffReason, switch: Switch) -> str:
    from ledger.webhooks.switch import OffReason

    change = f"{make_printable(switch.who)} at {format_time(switch.at)}"
    change += f": {make_printable(switch.reason)}" if switch.reason else ""
    match reason:
        case OffReason.COPY:
            how = f", declared so by {change}" if switch.action == "declare_copy" else ""
            return (
                f"copy: this database is a copy{how}. Due dates, checkpoints and witnesses wait too. "
                "To make it the one that acts: ledger webhooks resume"
            )
        case OffReason.PAUSED:
            return f"paused: by {change}. To end this: ledger webhooks resume"
        case OffReason.SETTING:
            return "setting: LEDGER_WEBHOOKS=off here; other processes may send"

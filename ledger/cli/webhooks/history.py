"""Deliveries and their attempts, one delivery sent again, and the health of an endpoint.

They read and change the database, of any account, beside a running service or not. No URL is shown.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli.groups import JsonOption, format_examples, print_json
from ledger.cli.shell import (
    Deployment,
    format_count,
    format_time,
    get_shell_user,
    make_printable,
    print_table,
    run_change,
    run_with_deployment,
)
from ledger.cli.webhooks.waits import describe_wait
from ledger.clock import Clock
from ledger.postgres.connections import Conn

if TYPE_CHECKING:
    from ledger.webhooks.history.deliveries import Delivery, DeliveryRecord
    from ledger.webhooks.history.endpoint_report import EndpointReport

_DELIVERY = "dlv_0352CZ3z1jWpJM7B8upbma"
_ENDPOINT = "we_0352CZ3z1jWpJM7B8upbma"

DeliveryArgument = Annotated[str, typer.Argument(help="The id of a delivery (dlv_…).")]


def add_history_commands(group: typer.Typer) -> None:
    """Add `deliveries`, `delivery`, `retry` and `health`."""
    _add_deliveries_command(group)
    _add_delivery_command(group)
    _add_retry_command(group)
    _add_health_command(group)


def _add_deliveries_command(group: typer.Typer) -> None:
    @group.command(
        "deliveries",
        epilog=format_examples(
            "ledger webhooks deliveries --state failed",
            f"ledger webhooks deliveries --endpoint {_ENDPOINT} --type 'charge.*' --limit 100",
            "ledger webhooks deliveries --since 2026-11-28T03:00:00Z --json",
        ),
    )
    def deliveries(
        endpoint: Annotated[str | None, typer.Option(help="The id of an endpoint.")] = None,
        events: Annotated[
            list[str] | None, typer.Option("--event", help="The id of an Event; repeat it for several.")
        ] = None,
        replay: Annotated[
            str | None, typer.Option(help="The id of a replay (whr_…) or retry (wrt_…).")
        ] = None,
        states: Annotated[
            list[str] | None,
            typer.Option(
                "--state",
                help="One of pending, delivered, failed, dropped, forwarded; repeat it for several.",
            ),
        ] = None,
        types: Annotated[
            list[str] | None,
            typer.Option("--type", help="A type of Event, or 'charge.*'; repeat it for several."),
        ] = None,
        since: Annotated[
            str | None, typer.Option(help="Made since this time: unix seconds or ISO 8601.")
        ] = None,
        until: Annotated[str | None, typer.Option(help="Made until this time.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, at most.")] = 20,
        starting_after: Annotated[
            str | None, typer.Option(help="The id of the last delivery of the page before.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        """List deliveries, newest first."""
        from ledger.webhooks.history.deliveries import list_deliveries
        from ledger.webhooks.history.filters import DeliveryFilters

        bounds = parse_bounds(since, until)
        filters = DeliveryFilters(endpoint, events or (), states or (), types or (), bounds, replay)

        async def read(conn: Conn, clock: Clock, deployment: Deployment) -> tuple[list[Delivery], bool]:
            return await list_deliveries(conn, None, filters, limit=limit, starting_after=starting_after)

        page, has_more = run_with_deployment(read)
        if as_json:
            print_json({"data": [delivery.to_json() for delivery in page], "has_more": has_more})
            return
        _print_page(page, has_more)


def _add_delivery_command(group: typer.Typer) -> None:
    @group.command(
        "delivery",
        epilog=format_examples(
            f"ledger webhooks delivery {_DELIVERY}", f"ledger webhooks delivery {_DELIVERY} --json"
        ),
    )
    def delivery(delivery_id: DeliveryArgument, as_json: JsonOption = False) -> None:
        """Show a delivery, its attempts and what was answered."""

        async def read(conn: Conn, clock: Clock, deployment: Deployment) -> DeliveryRecord:
            return await _read_record(conn, clock, deployment, delivery_id)

        _print_record(run_with_deployment(read), as_json)


def _add_retry_command(group: typer.Typer) -> None:
    @group.command(
        "retry",
        epilog=format_examples(
            f"ledger webhooks retry {_DELIVERY}", f"ledger webhooks retry {_DELIVERY} --json"
        ),
    )
    def retry(delivery_id: DeliveryArgument, as_json: JsonOption = False) -> None:
        """Send a delivery again, now.

        The whole schedule of attempts is before it. While an attempt is under way, no other one is made:
        only if it fails is the next one. To send many again: ledger webhooks retry-all."""
        from ledger.store.codec import Codec
        from ledger.webhooks.history.retry import Request, retry_delivery

        async def change(conn: Conn, clock: Clock, deployment: Deployment) -> DeliveryRecord:
            async with conn.transaction():
                request = Request(get_shell_user(), clock.now())
                await retry_delivery(conn, Codec(deployment.service_keys), delivery_id, None, request)
                return await _read_record(conn, clock, deployment, delivery_id)

        _print_record(run_change(change), as_json)


def _add_health_command(group: typer.Typer) -> None:
    @group.command(
        "health",
        epilog=format_examples(
            f"ledger webhooks health {_ENDPOINT}", f"ledger webhooks health {_ENDPOINT} --json"
        ),
    )
    def health(
        endpoint: Annotated[str, typer.Argument(help="The id of a webhook endpoint (we_… or ed_…).")],
        as_json: JsonOption = False,
    ) -> None:
        """Show how deliveries to an endpoint go."""
        from ledger.store.codec import Codec
        from ledger.webhooks.history.endpoint_report import read_endpoint_report

        async def read(conn: Conn, clock: Clock, deployment: Deployment) -> EndpointReport:
            codec = Codec(deployment.service_keys)
            return await read_endpoint_report(conn, codec, endpoint, None, clock.now())

        report = run_with_deployment(read)
        if as_json:
            print_json(report.to_json())
        else:
            _print_report(report)


async def _read_record(conn: Conn, clock: Clock, deployment: Deployment, delivery_id: str) -> DeliveryRecord:
    from ledger.store.codec import Codec
    from ledger.webhooks.history.deliveries import read_delivery

    return await read_delivery(conn, Codec(deployment.service_keys), delivery_id, None, clock.now())


def parse_bounds(since: str | None, until: str | None) -> dict[str, int]:
    """The bounds on when a delivery was made, in whole seconds. Raises InvalidParameter."""
    from ledger.audit.moments import parse_time_span

    bounds = {}
    if since is not None:
        bounds["gte"] = int(parse_time_span(since, param="since")[0].timestamp())
    if until is not None:
        bounds["lte"] = int(parse_time_span(until, param="until")[0].timestamp())
    return bounds


def _print_page(page: list[Delivery], has_more: bool) -> None:
    """Two short lines for each delivery on a terminal, which ids would make too wide for a table; to a pipe
    one line, tab-separated."""
    if not sys.stdout.isatty():
        header = ("delivery", "created", "type", "event", "endpoint", "state", "attempts", "last", "next_at")
        print_table(header, [_list_cells(delivery) for delivery in page])
    else:
        for delivery in page:
            made, _, *names = _list_cells(delivery)[:5]
            print(f"{made}  {format_time(delivery.created)}  {_describe_attempts(delivery)}")
            print(f"    {make_printable(names[0])}  {names[1]}  to {names[2]}")
    if has_more:
        print(f"There are more: --starting-after {page[-1].id}", file=sys.stderr)
    elif not page:
        print("No deliveries.", file=sys.stderr)


def _list_cells(delivery: Delivery) -> tuple[str, ...]:
    last = delivery.last_attempt
    return (
        delivery.id,
        format_time(delivery.created),
        delivery.type,
        delivery.event,
        delivery.endpoint,
        delivery.state,
        str(delivery.attempt_count),
        "" if last is None else last.error or str(last.status),
        format_time(delivery.due_at) if delivery.state == "pending" and delivery.due_at is not None else "",
    )


def _describe_state(delivery: Delivery) -> str:
    """For example `pending, 2 attempts, last: 500, next: 2026-11-28 03:12:07Z`."""
    described = _describe_attempts(delivery)
    if delivery.in_flight:
        return f"{described}, one under way"
    if delivery.state == "pending" and delivery.due_at is None:
        return f"{described}, next: after an earlier Event of the object"
    if delivery.state == "pending":
        return f"{described}, next: {format_time(delivery.due_at)}"
    return described


def _describe_attempts(delivery: Delivery) -> str:
    described = f"{delivery.state}, {format_count(delivery.attempt_count, 'attempt')}"
    if delivery.last_attempt is None:
        return described
    return f"{described}, last: {delivery.last_attempt.error or delivery.last_attempt.status}"


def _print_record(record: DeliveryRecord, as_json: bool) -> None:
    if as_json:
        print_json(record.to_json())
        return
    delivery, attempts, waits_for = record
    mode = "live" if delivery.livemode else "test"
    print(f"{delivery.id}: {_describe_state(delivery)}")
    print(f"  {make_printable(delivery.type)}, {delivery.event} of {delivery.account} ({mode})")
    print(f"  to {delivery.endpoint}; made at {format_time(delivery.created)}")
    if delivery.replay is not None:
        print(f"  sent by the replay {delivery.replay}")
    for code in waits_for:
        print(f"  It waits: {describe_wait(code)}.")
    shown = {attempt["number"]: attempt for attempt in record.to_json()["attempts"]}
    for attempt, _ in attempts:
        outcome = attempt.error or f"status {attempt.status}"
        print(f"Attempt {attempt.number} at {format_time(attempt.at)}: {outcome} in {attempt.duration_ms} ms")
        answer = shown[attempt.number]["answer"]
        for line in (answer or "").splitlines():
            print(f"    {make_printable(line)}")


def _print_report(report: EndpointReport) -> None:
    failure, waiting, recent = report.failure, report.waiting, report.recent
    mode = "live" if report.livemode else "test"
    print(f"{report.endpoint} of {report.account} ({mode}): {report.status}")
    for code in report.obstacles:
        print(f"  Nothing is sent: {describe_wait(code)}.")
    if failure.failing:
        print(
            f"Failing since {format_time(failure.since)}: {format_count(failure.attempts, 'attempt')} failed."
        )
    breaker = report.breaker
    if breaker.state != "closed":
        probes = format_count(breaker.failed_probes, "such attempt")
        print(
            f"Paused since {format_time(breaker.opened_at)}, tried again at "
            f"{format_time(breaker.next_probe_at)}; {probes} failed."
        )
    if breaker.asked_until is not None:
        print(f"The receiver asked for no attempts before {format_time(breaker.asked_until)}.")
    if failure.last_at is not None:
        reason = failure.error or f"status {failure.status}"
        print(f"Last failure: {format_time(failure.last_at)}, {reason}.")
    success = report.last_success
    print(f"Last success: {'none' if success is None else format_time(success.at)}.")
    print(f"Pending: {waiting.pending}, {waiting.due} of them due; given up: {waiting.given_up}.")
    if waiting.oldest_due_at is not None:
        print(f"The oldest is due since {format_time(waiting.oldest_due_at)}.")
    elif waiting.next_due_at is not None:
        print(f"The next attempt is due at {format_time(waiting.next_due_at)}.")
    if recent.success_share is not None:
        print(
            f"Last {format_count(recent.attempts, 'attempt')} since {format_time(recent.since)}: "
            f"{recent.success_share:.1%} succeeded; half took at most {recent.median_ms} ms, "
            f"19 in 20 at most {recent.high_ms} ms."
        )
    if waiting.given_up:
        print(f"To send what was given up: ledger webhooks replay --endpoint {report.endpoint} --only-failed")

"""Send again all deliveries that match, and look after such retries: workers run them, not the command."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

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
    choose_account,
    format_count,
    format_time,
    get_shell_user,
    print_table,
    run_change,
    run_with_deployment,
)
from ledger.cli.webhooks.history import parse_bounds
from ledger.cli.webhooks.replays import WaitOption, check_reason
from ledger.clock import Clock
from ledger.errors import InvalidParameter, SettingError
from ledger.postgres.connections import Conn

if TYPE_CHECKING:
    from ledger.webhooks.replays.records import ReplayAction
    from ledger.webhooks.retries.filters import RetryFilter, RetryRequest
    from ledger.webhooks.retries.preview import RetryPreview
    from ledger.webhooks.retries.progress import Retry

_ENDPOINT = "we_0352CZ3z1jWpJM7B8upbma"
_RETRY = "wrt_0352CZ3z1jWpJM7B8upbma"

RetryArgument = Annotated[str, typer.Argument(help="The id of a retry (wrt_…).")]


def add_retry_commands(group: typer.Typer) -> None:
    """Add `retry-all`, `retries`, `pause-retry`, `resume-retry` and `cancel-retry`."""
    _add_retry_all_command(group)
    _add_retries_command(group)
    _add_change_command(group, "pause", "Pause a retry of many; what is pending of it is sent.")
    _add_change_command(group, "resume", "Resume a paused retry of many where it stopped.")
    _add_change_command(group, "cancel", "Cancel a retry of many; what is pending is as before.")


def _add_retry_all_command(group: typer.Typer) -> None:
    @group.command(
        "retry-all",
        epilog=format_examples(
            "ledger webhooks retry-all --dry-run",
            f"ledger webhooks retry-all --endpoint {_ENDPOINT} --reason 'it was down' --wait",
            "ledger webhooks retry-all --state failed --status 503 --since 2026-11-28 --yes",
        ),
    )
    def retry_all(
        account: Annotated[
            str | None, typer.Option("--account", help="The account; optional if there is only one.")
        ] = None,
        live: Annotated[bool, typer.Option("--live", help="Live mode instead of test mode.")] = False,
        endpoint: Annotated[str | None, typer.Option(help="Only deliveries to this endpoint.")] = None,
        event: Annotated[str | None, typer.Option(help="Only deliveries of this Event.")] = None,
        states: Annotated[
            list[str] | None,
            typer.Option(
                "--state",
                help="One of failed, dropped, delivered, pending; repeat it. Default: failed and dropped.",
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
        status: Annotated[
            int | None, typer.Option(min=100, max=599, help="Last attempt answered with this HTTP status.")
        ] = None,
        error: Annotated[
            str | None, typer.Option(help="Last attempt without an answer for this reason: timeout, dns ….")
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and change nothing.")] = False,
        reason: ReasonOption = "",
        wait: WaitOption = False,
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Send again all deliveries of an account that match.

        A running worker makes them due, each once; what else is due goes first. Those to disabled and deleted
        endpoints are left out. For Events of any age: ledger webhooks replay."""
        from ledger.webhooks.retries.filters import RetryRequest

        check_reason(reason)
        bounds = parse_bounds(since, until)
        request = RetryRequest(endpoint, event, states or (), types or (), bounds, status, error)
        preview = _run_preview(request, account, livemode=live)
        if dry_run:
            _print_preview(preview, as_json)
            return
        require_consent(f"{_describe(preview)} would be sent again.", yes=yes)
        started = run_change(lambda conn, clock, _: _start(conn, clock, preview.chosen, reason))
        _show(started, wait=wait, as_json=as_json)


def _add_retries_command(group: typer.Typer) -> None:
    @group.command(
        "retries",
        epilog=format_examples(
            "ledger webhooks retries",
            f"ledger webhooks retries {_RETRY} --wait",
            "ledger webhooks retries --json",
        ),
    )
    def retries(
        retry_id: Annotated[str | None, typer.Argument(help="Only this retry (wrt_…), in full.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, at most.")] = 20,
        starting_after: Annotated[
            str | None, typer.Option(help="The id of the last retry of the page before.")
        ] = None,
        wait: WaitOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """List retries of many deliveries, newest first, or show one."""
        from ledger.webhooks.retries.records import get_retry, list_retries

        if retry_id is not None:
            found = run_with_deployment(lambda conn, *_: get_retry(conn, retry_id, owner=None))
            _show(found, wait=wait, as_json=as_json)
            return
        if wait:
            raise SettingError("--wait: name the retry to wait for")
        page, has_more = run_with_deployment(
            lambda conn, *_: list_retries(conn, owner=None, starting_after=starting_after, limit=limit)
        )
        if as_json:
            print_json({"data": [each.to_json() for each in page], "has_more": has_more})
            return
        header = ("retry", "account", "state", "matched", "delivered", "failed", "pending", "started")
        rows = [
            (
                each.id, each.chosen.account, each.state, "…" if each.matched is None else each.matched,
                each.delivered, each.failed, each.pending, format_time(each.created),
            )
            for each in page
        ]  # fmt: skip
        print_table(header, rows)


_REASONS: dict[str, str] = {
    "pause": "too much at once",
    "resume": "the receivers have caught up",
    "cancel": "the wrong filter",
}


def _add_change_command(group: typer.Typer, action: ReplayAction, text: str) -> None:
    @group.command(
        f"{action}-retry",
        help=text,
        epilog=format_examples(f"ledger webhooks {action}-retry {_RETRY} --reason '{_REASONS[action]}'"),
    )
    def change(retry_id: RetryArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
        from ledger.webhooks.replays.records import Actor
        from ledger.webhooks.retries.records import change_retry

        check_reason(reason)
        changed = run_change(
            lambda conn, clock, _: change_retry(
                conn, retry_id, action, Actor(get_shell_user(), reason), owner=None, now=clock.now()
            )
        )
        _show(changed, wait=False, as_json=as_json)


def _run_preview(request: RetryRequest, account: str | None, *, livemode: bool) -> RetryPreview:
    """The dry run. Raises SettingError, which names the option."""
    from ledger.store.codec import Codec
    from ledger.webhooks.retries.filters import resolve_retry
    from ledger.webhooks.retries.preview import preview_retry

    async def preview(conn: Conn, clock: Clock, deployment: Deployment) -> RetryPreview:
        owner = await choose_account(conn, account), livemode
        chosen = await resolve_retry(conn, request, owner=owner, now=clock.now())
        return await preview_retry(conn, Codec(deployment.service_keys), chosen, now=clock.now())

    try:
        return run_with_deployment(preview)
    except InvalidParameter as refusal:
        options = {"types": "--type", "created": "--since"}
        option = options.get(refusal.param or "", f"--{refusal.param}")
        raise SettingError(f"{option}: {refusal.message}") from None


async def _start(conn: Conn, clock: Clock, chosen: RetryFilter, reason: str) -> Retry:
    from ledger.webhooks.replays.records import Actor
    from ledger.webhooks.retries.records import start_retry

    return await start_retry(conn, chosen, Actor(get_shell_user(), reason), now=clock.now())


def _show(retry: Retry, *, wait: bool, as_json: bool) -> None:
    """Print a retry, or its progress until it has ended."""
    from ledger.cli.webhooks.job_display import describe_retry, follow
    from ledger.webhooks.retries.records import get_retry

    if wait and not retry.is_ended:
        read = partial(get_retry, retry_id=retry.id, owner=None)
        retry = run_with_deployment(lambda conn, clock, deployment: follow(deployment.dsn, read))
    if as_json:
        print_json(retry.to_json())
        return
    for line in describe_retry(retry):
        print(line)


def _print_preview(preview: RetryPreview, as_json: bool) -> None:
    from ledger.cli.webhooks.job_display import describe_left_out

    if as_json:
        print_json(preview.to_json())
        return
    print(f"{_describe(preview)} would be sent again.")
    for part in preview.parts:
        print(f"{part.endpoint}:")
        for state, count in sorted(part.tally.by_state.items()):
            print(f"  {count:>9,}  {state}")
        for code, count in part.left_out.items():
            print(f"  {describe_left_out(code, count)}")
    print("Nothing was changed.")


def _describe(preview: RetryPreview) -> str:
    return format_count(preview.due, "delivery", "deliveries")

"""Replay the Events of a window to an endpoint, and look after replays: workers run them, not the command."""

from __future__ import annotations

import re
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
    format_count,
    format_time,
    get_shell_user,
    make_printable,
    print_table,
    run_change,
    run_with_deployment,
)
from ledger.clock import Clock
from ledger.errors import InvalidParameter, SettingError
from ledger.postgres.connections import Conn

if TYPE_CHECKING:
    from ledger.webhooks.replays.filters import ReplayFilter, ReplayRequest
    from ledger.webhooks.replays.preview import Preview
    from ledger.webhooks.replays.progress import Replay
    from ledger.webhooks.replays.records import ReplayAction

_ENDPOINT = "we_0352CZ3z1jWpJM7B8upbma"
_REPLAY = "whr_0352CZ3z1jWpJM7B8upbma"

ReplayArgument = Annotated[str, typer.Argument(help="The id of a replay (whr_…).")]
EndpointOption = Annotated[str, typer.Option("--endpoint", help="The id of the endpoint (we_… or ed_…).")]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Events since this time, included: unix seconds or ISO 8601. --only-failed needs none.",
    ),
]
ToOption = Annotated[
    str | None, typer.Option("--to", help="Events before this time. Default: all that is recorded by now.")
]
TypesOption = Annotated[
    list[str] | None,
    typer.Option("--type", help="A type of Event, or 'charge.*'; repeat it for several."),
]
ObjectOption = Annotated[str | None, typer.Option("--object", help="Only Events of the object with this id.")]
OnlyFailedOption = Annotated[
    bool, typer.Option("--only-failed", help="Only Events whose delivery was given up or dropped.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Count, and change nothing.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Show the progress until it has ended.")]


def add_replay_commands(group: typer.Typer) -> None:
    """Add `replay`, `replays`, `pause-replay`, `resume-replay` and `cancel-replay`."""
    _add_replay_command(group)
    _add_replays_command(group)
    _add_change_command(group, "pause", "Pause a replay; what is pending of it is sent.")
    _add_change_command(group, "resume", "Resume a paused replay where it stopped.")
    _add_change_command(group, "cancel", "Cancel a replay; what is pending of it is not sent.")


def _add_replay_command(group: typer.Typer) -> None:
    @group.command(
        "replay",
        epilog=format_examples(
            f"ledger webhooks replay --endpoint {_ENDPOINT} --from 2026-11-28T03:00:00Z --dry-run",
            f"ledger webhooks replay --endpoint {_ENDPOINT} --only-failed --reason 'it was down' --wait",
            f"ledger webhooks replay --endpoint {_ENDPOINT} --from 2026-11-01 --type 'charge.*' --wait",
        ),
    )
    def replay(
        endpoint: EndpointOption,
        window_from: FromOption = None,
        window_to: ToOption = None,
        types: TypesOption = None,
        object_id: ObjectOption = None,
        only_failed: OnlyFailedOption = False,
        dry_run: DryRunOption = False,
        reason: ReasonOption = "",
        wait: WaitOption = False,
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Send the Events of a window to an endpoint.

        They may be of any age, and the endpoint newer than they are. A running worker sends them, in the
        order of the log; what else is due to the endpoint goes first."""
        from ledger.webhooks.replays.filters import ReplayRequest

        check_reason(reason)
        if window_from is None and not only_failed:
            raise SettingError("--from: required without --only-failed")
        request = ReplayRequest(
            endpoint,
            _parse_time(window_from, "--from") or 0,
            _parse_time(window_to, "--to"),
            types or (),
            only_failed,
            object_id,
        )
        try:
            preview = run_with_deployment(
                lambda conn, clock, deployment: _preview(conn, clock, deployment, request)
            )
        except InvalidParameter as error:
            raise SettingError(_name_options(error.message)) from None
        if dry_run:
            _print_preview(preview, as_json)
            return
        require_consent(f"{_describe(preview)} would be sent to {preview.chosen.endpoint}.", yes=yes)
        started = run_change(lambda conn, clock, _: _start(conn, clock, preview.chosen, request, reason))
        _show(started, wait=wait, as_json=as_json)


def _add_replays_command(group: typer.Typer) -> None:
    @group.command(
        "replays",
        epilog=format_examples(
            "ledger webhooks replays",
            f"ledger webhooks replays {_REPLAY} --wait",
            f"ledger webhooks replays --endpoint {_ENDPOINT} --json",
        ),
    )
    def replays(
        replay_id: Annotated[str | None, typer.Argument(help="Only this replay (whr_…), in full.")] = None,
        endpoint: Annotated[str | None, typer.Option(help="The id of an endpoint.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, at most.")] = 20,
        starting_after: Annotated[
            str | None, typer.Option(help="The id of the last replay of the page before.")
        ] = None,
        wait: WaitOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """List replays, newest first, or show one."""
        from ledger.webhooks.replays.records import get_replay, list_replays

        if replay_id is not None:
            found = run_with_deployment(lambda conn, *_: get_replay(conn, replay_id, owner=None))
            _show(found, wait=wait, as_json=as_json)
            return
        if wait:
            raise SettingError("--wait: name the replay to wait for")
        page, has_more = run_with_deployment(
            lambda conn, *_: list_replays(
                conn, owner=None, endpoint=endpoint, starting_after=starting_after, limit=limit
            )
        )
        if as_json:
            print_json({"data": [each.to_json() for each in page], "has_more": has_more})
            return
        header = ("replay", "endpoint", "state", "total", "delivered", "failed", "pending", "started")
        rows = [
            (
                each.id, each.endpoint, each.state, "…" if each.total is None else each.total, each.delivered,
                each.failed, each.pending, format_time(each.created),
            )
            for each in page
        ]  # fmt: skip
        print_table(header, rows)


_REASONS: dict[str, str] = {
    "pause": "too much at once",
    "resume": "the receiver has caught up",
    "cancel": "wrong endpoint",
}


def _add_change_command(group: typer.Typer, action: ReplayAction, text: str) -> None:
    @group.command(
        f"{action}-replay",
        help=text,
        epilog=format_examples(f"ledger webhooks {action}-replay {_REPLAY} --reason '{_REASONS[action]}'"),
    )
    def change(replay_id: ReplayArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
        from ledger.webhooks.replays.records import Actor, change_replay

        check_reason(reason)
        changed = run_change(
            lambda conn, clock, _: change_replay(
                conn, replay_id, action, Actor(get_shell_user(), reason), owner=None, now=clock.now()
            )
        )
        _show(changed, wait=False, as_json=as_json)


async def _preview(conn: Conn, clock: Clock, deployment: Deployment, request: ReplayRequest) -> Preview:
    from ledger.store.codec import Codec
    from ledger.webhooks.replays.filters import resolve_filter
    from ledger.webhooks.replays.preview import preview_replay

    codec = Codec(deployment.service_keys)
    chosen = await resolve_filter(conn, codec, request, now=clock.now(), owner=None)
    return await preview_replay(conn, codec, chosen)


async def _start(
    conn: Conn, clock: Clock, chosen: ReplayFilter, request: ReplayRequest, reason: str
) -> Replay:
    from ledger.webhooks.replays.records import Actor, start_replay

    return await start_replay(conn, chosen, request.types, Actor(get_shell_user(), reason), now=clock.now())


def _show(replay: Replay, *, wait: bool, as_json: bool) -> None:
    """Print a replay, or its progress until it has ended."""
    from ledger.cli.webhooks.job_display import describe_replay, follow
    from ledger.webhooks.replays.records import get_replay

    if wait and not replay.is_ended:
        read = partial(get_replay, replay_id=replay.id, owner=None)
        replay = run_with_deployment(lambda conn, clock, deployment: follow(deployment.dsn, read))
    if as_json:
        print_json(replay.to_json())
        return
    for line in describe_replay(replay):
        print(line)


def _print_preview(preview: Preview, as_json: bool) -> None:
    document = preview.to_json()
    if as_json:
        print_json(document)
        return
    print(f"{_describe(preview)} would be sent to {preview.chosen.endpoint}.")
    for name, count in document["by_type"].items():
        print(f"  {count:>9,}  {name}")
    for which in ("first", "last"):
        if (event := document[which]) is not None:
            print(f"{which.capitalize()}: {event['id']} at {format_time(event['created'])}")
    if preview.tally.unreadable:
        unreadable = format_count(preview.tally.unreadable, "more Event")
        print(f"{unreadable} cannot be made from the log at the moment (ledger projections status).")
    print("Nothing was changed.")


def _describe(preview: Preview) -> str:
    return format_count(preview.tally.by_type.total(), "Event")


def _parse_time(text: str | None, option: str) -> int | None:
    from ledger.audit.moments import parse_time_span

    if text is None:
        return None
    try:
        return int(parse_time_span(text, param=option)[0].timestamp())
    except InvalidParameter as error:
        raise SettingError(f"{option}: {make_printable(error.message)}") from None


def _name_options(message: str) -> str:
    """An error about the call's parameters, with the names of the command's options."""
    message = message.replace("`to` is before `from`", "--to is before --from")
    return re.sub(r"types\[\d+\]", "--type", message)


def check_reason(reason: str) -> None:
    """Raises SettingError for a reason that is too long."""
    from ledger.webhooks.replays.records import REASON_LENGTH_MAX

    if len(reason) > REASON_LENGTH_MAX:
        raise SettingError(f"--reason: at most {REASON_LENGTH_MAX} characters")

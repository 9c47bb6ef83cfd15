"""The progress of a replay as an operator sees it: a bar on a terminal, lines when piped."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ledger.cli.shell import format_time, make_printable
from ledger.cli.webhooks.waits import describe_wait
from ledger.errors import Unavailable
from ledger.postgres.connections import ReconnectingConnection
from ledger.webhooks.replays.progress import Replay
from ledger.webhooks.replays.records import get_replay

POLL_SECONDS = 0.5
LINE_SECONDS = 5.0


def describe_replay(replay: Replay) -> list[str]:
    """A replay in words."""
    types = f", types {' '.join(replay.types)}" if replay.types else ""
    failed = ", only what was given up" if replay.only_failed else ""
    of_object = f", of {replay.object}" if replay.object else ""
    reason = f": {make_printable(replay.reason)}" if replay.reason else ""
    lines = [
        f"{replay.id} to {replay.endpoint}: {replay.state}",
        f"  Events from {format_time(replay.window_from)} to {format_time(replay.window_to)}"
        f"{types}{failed}{of_object}",
        f"  Started at {format_time(replay.created)} by {make_printable(replay.who)}{reason}",
        f"  {describe_progress(replay)}",
    ]
    return [*lines, *(f"  It waits: {describe_wait(code)}." for code in replay.waits_for)]


def describe_progress(replay: Replay) -> str:
    """How far it is, in one line."""
    total = "…" if replay.total is None else f"{replay.total:,}"
    parts = [f"{replay.delivered:,} of {total} delivered"]
    counts = {
        "pending": replay.pending, "failed": replay.failed, "dropped": replay.dropped,
        "left alone": replay.left_alone, "unreadable": replay.unreadable,
    }  # fmt: skip
    parts += [f"{count:,} {name}" for name, count in counts.items() if count]
    if replay.rate is not None:
        parts.append(f"{replay.rate:,.0f}/s")
    if replay.eta_seconds:
        parts.append(f"{replay.eta_seconds:,.0f} s left")
    return ", ".join(parts)


async def follow(dsn: str, replay_id: str) -> Replay:
    """Show the replay on standard error until it ends, or is paused; how it is then. A database that is lost
    meanwhile is waited for, as the replay does."""
    on_terminal = sys.stderr.isatty()
    bar = Progress(
        TextColumn("{task.fields[state]:<9}"), BarColumn(bar_width=20), TaskProgressColumn(),
        TextColumn("{task.fields[text]}"), console=Console(stderr=True), disable=not on_terminal,
    )  # fmt: skip
    line_at = 0.0
    connection = ReconnectingConnection(dsn, "ledger_api", name="cli")
    with bar:
        task = bar.add_task("", total=None, state="", text="")
        while True:
            try:
                replay = await connection.run_idempotent(partial(get_replay, replay_id=replay_id, owner=None))
            except Unavailable as error:
                print(f"the database is away: {error}", file=sys.stderr, flush=True)
                continue
            text = "; ".join(
                [
                    describe_progress(replay),
                    *(f"waits: {describe_wait(code)}" for code in replay.waits_for),
                ]
            )
            done = replay.settled + replay.left_alone + replay.unreadable
            bar.update(task, total=replay.total, completed=done, state=replay.state, text=text)
            if replay.state != "running":
                await connection.drop()
                return replay
            if not on_terminal and time.monotonic() >= line_at:
                print(f"{replay.state}: {text}", file=sys.stderr, flush=True)
                line_at = time.monotonic() + LINE_SECONDS
            await asyncio.sleep(POLL_SECONDS)

"""The progress of a replay, or of a retry of many, as an operator sees it: a bar on a terminal, lines when
piped."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ledger.cli.shell import format_count, format_time, make_printable
from ledger.cli.webhooks.waits import describe_wait
from ledger.errors import Unavailable
from ledger.postgres.connections import Conn, ReconnectingConnection
from ledger.webhooks.replays.progress import Replay
from ledger.webhooks.retries.progress import Retry

Job = TypeVar("Job", Replay, Retry)

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


def describe_retry(retry: Retry) -> list[str]:
    """A retry of many in words."""
    request = retry.chosen.request
    given = {
        "state": " ".join(retry.chosen.states), "types": " ".join(request.types),
        "endpoint": request.endpoint, "event": request.event, "last status": request.status,
        "last error": request.error,
    }  # fmt: skip
    filters = ", ".join(f"{name} {value}" for name, value in given.items() if value)
    reason = f": {make_printable(retry.reason)}" if retry.reason else ""
    lines = [
        f"{retry.id} of {retry.chosen.account}: {retry.state}",
        f"  Deliveries of {filters}",
        f"  Started at {format_time(retry.created)} by {make_printable(retry.who)}{reason}",
        f"  {describe_progress(retry)}",
    ]
    for part in retry.parts:
        if part.matched:
            lines.append(f"  {part.endpoint}: {part.made_due:,} made due of {part.matched:,}")
            lines += [f"    {describe_left_out(code, count)}" for code, count in part.left_out.items()]
            lines += [] if part.waits_for is None else [f"    It waits: {describe_wait(part.waits_for)}."]
    return [*lines, *(f"  It waits: {describe_wait(code)}." for code in retry.waits_for)]


_LEFT_OUT = {
    "endpoint_disabled": "the endpoint is disabled",
    "endpoint_deleted": "the endpoint is deleted",
    "in_other_job": "a replay or retry that has not ended sends them",
    "attempts_exhausted": "attempted as often as one may be",
}


def describe_left_out(code: str, count: int) -> str:
    """How many deliveries are left out, and why."""
    return f"{format_count(count, 'delivery', 'deliveries')} left out: {_LEFT_OUT.get(code, code)}."


def describe_progress(job: Replay | Retry) -> str:
    """How far it is, in one line."""
    total, others = _count(job)
    parts = [f"{job.delivered:,} of {'…' if total is None else f'{total:,}'} delivered"]
    counts = {"pending": job.pending, "failed": job.failed, "dropped": job.dropped, **others}
    parts += [f"{count:,} {name}" for name, count in counts.items() if count]
    if job.rate is not None:
        parts.append(f"{job.rate:,.0f}/s")
    if job.eta_seconds:
        parts.append(f"{job.eta_seconds:,.0f} s left")
    return ", ".join(parts)


def _count(job: Replay | Retry) -> tuple[int | None, dict[str, int]]:
    """Of how many it is, and those of them that it does not send."""
    if isinstance(job, Replay):
        return job.total, {"left alone": job.left_alone, "unreadable": job.unreadable}
    return job.matched, {"left out": sum(job.left_out.values()), "returned": job.returned}


async def follow(dsn: str, read: Callable[[Conn], Awaitable[Job]]) -> Job:
    """Show the replay or retry on standard error until it ends, or is paused; how it is then. A database that
    is lost meanwhile is waited for, as the workers do."""
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
                job = await connection.run_idempotent(read)
            except Unavailable as error:
                print(f"the database is away: {error}", file=sys.stderr, flush=True)
                continue
            text = describe_progress(job)
            for code in job.waits_for:
                text += f"; waits: {describe_wait(code)}"
            total, others = _count(job)
            done = job.settled + sum(others.values())
            bar.update(task, total=total, completed=done, state=job.state, text=text)
            if job.state != "running":
                await connection.drop()
                return job
            if not on_terminal and time.monotonic() >= line_at:
                print(f"{job.state}: {text}", file=sys.stderr, flush=True)
                line_at = time.monotonic() + LINE_SECONDS
            await asyncio.sleep(POLL_SECONDS)

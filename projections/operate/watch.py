"""A rebuild watched from a shell: driven here unless another process drives it, and shown as it proceeds.

Whatever ends the command, backfilled rows are kept, and the last line says how to continue.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg

from ledger.errors import LedgerError, SettingError, Unavailable
from projections.operate.actions import Actions
from projections.operate.progress import ProgressDisplay
from projections.operate.reports import RebuildReport
from projections.operate.shell import CommandContext, run
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild import records
from projections.rebuild.driver import drive
from projections.rebuild.processes import BackfillProcesses
from projections.rebuild.records import Rebuild
from projections.rebuild.states import RebuildState

POLL_SECONDS = 0.5


def run_and_watch(begin: Callable[[Actions], Awaitable[RebuildReport]], *, as_json: bool) -> None:
    """Drive and show the rebuild that `begin` returns, until it ends, is paused, or waits for a decision.

    Raises SettingError, saying how to continue, unless it was promoted; what `begin` raises.
    """
    begun: list[Rebuild] = []

    async def watch(context: CommandContext) -> Rebuild:
        begun.append((await begin(context.actions)).rebuild)
        return await _drive_and_show(context, begun[0].id, as_json)

    try:
        rebuild = run(watch)
    except (KeyboardInterrupt, Unavailable) as error:
        if not begun:
            raise
        raise SettingError(_explain_interruption(begun[0], error)) from None
    _report_outcome(rebuild)


def suggest_next_step(rebuild: Rebuild) -> str | None:
    """What an operator does next about an open rebuild; None while a process drives it."""
    name = rebuild.builds[0].projection
    if rebuild.needs_driver:
        return f"no process is running it: start a worker, or run: ledger projections resume {name}"
    if rebuild.paused:
        return f"to continue: ledger projections resume {name}"
    if rebuild.state is RebuildState.DIFFERING:
        return f"look at the differences: ledger projections diff {name}"
    return None


async def _drive_and_show(context: CommandContext, rebuild_id: int, as_json: bool) -> Rebuild:
    engine = context.create_engine()
    backfill_shard = BackfillProcesses(context.dsn, context.service_keys).backfill_shard

    async def drive_when_free() -> None:
        while True:
            if await drive(context.dsn, context.clock, engine, PROJECTIONS, rebuild_id, backfill_shard):
                return
            await asyncio.sleep(POLL_SECONDS)

    task = asyncio.create_task(drive_when_free(), name="rebuild")
    try:
        with ProgressDisplay(as_json=as_json) as progress:
            while True:
                driver_ended = task.done()
                rebuild = await records.load(context.conn, rebuild_id)
                progress.show(rebuild, await records.load_size_bytes(context.conn, rebuild))
                if rebuild.is_over or rebuild.paused or rebuild.state is RebuildState.DIFFERING:
                    return rebuild
                if driver_ended:
                    # It stopped for a pause that was over before this loop saw it: drive on.
                    task.result()
                    task = asyncio.create_task(drive_when_free(), name="rebuild")
                await asyncio.wait([task], timeout=POLL_SECONDS)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, psycopg.Error, LedgerError):
            await task
        await engine.close()


def _explain_interruption(rebuild: Rebuild, error: BaseException) -> str:
    name = rebuild.builds[0].projection
    resume = f"A running worker continues it; without one, run: ledger projections resume {name}"
    if isinstance(error, Unavailable):
        return f"the connection to the database was lost ({error}); backfilled rows are kept. {resume}"
    return f"interrupted; backfilled rows are kept. {resume}. To end it: ledger projections cancel {name}"


def _report_outcome(rebuild: Rebuild) -> None:
    """Print what became of a rebuild that is no longer driven. Raises SettingError unless it was promoted."""
    name = rebuild.builds[0].projection
    if rebuild.state is RebuildState.PROMOTED:
        name_or_each = name if len(rebuild.builds) == 1 else "NAME"
        print(
            f"{rebuild.label}: switched to the rebuilt generation. To go back: ledger projections rollback "
            f"{name_or_each}; to drop the previous one: ledger projections retire {name_or_each}",
            file=sys.stderr,
        )
    elif rebuild.state is RebuildState.DIFFERING:
        why = f"{rebuild.error or 'the rebuilt rows differ from the live rows'}, so nothing was switched"
        raise SettingError(
            f"{rebuild.label}: {why}. Look at the differences: ledger projections diff {name}; then "
            f"`switch {name} --accept-differences --reason WHY`, `resume {name}` to compare again, or "
            f"`cancel {name}`"
        )
    elif rebuild.state is RebuildState.CANCELLED:
        raise SettingError(f"{rebuild.label}: the rebuild was cancelled")
    else:
        why = f": {rebuild.error}" if rebuild.error else ""
        raise SettingError(f"{rebuild.label}: paused{why}; to continue: ledger projections resume {name}")

"""A rebuild seen through from a shell: driven here unless another process drives it, shown as it goes.

Whatever ends the watching, what is filled is kept, and the last line says how to go on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg

from ledger.errors import LedgerError, SettingError, Unavailable
from projections.operate.progress import ProgressDisplay
from projections.operate.shell import CommandContext, run
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild import records
from projections.rebuild.driver import drive
from projections.rebuild.processes import BackfillProcesses
from projections.rebuild.records import Rebuild

POLL_SECONDS = 0.5


def run_and_watch(begin: Callable[[CommandContext], Awaitable[int]], name: str, *, as_json: bool) -> None:
    """Drive and show the rebuild of which `begin` gives the number, and `name` is a view.

    Raises SettingError, telling how to go on, unless it has switched.
    """

    async def watch(context: CommandContext) -> Rebuild:
        return await _drive_and_show(context, await begin(context), as_json)

    resume_hint = f"A running worker goes on with it, if there is one; else: ledger projections resume {name}"
    try:
        rebuild = run(watch)
    except KeyboardInterrupt:
        raise SettingError(
            f"interrupted; what is filled is kept. {resume_hint}. To end it: ledger projections cancel {name}"
        ) from None
    except Unavailable as error:
        raise SettingError(
            f"the database went away ({error}); what is filled is kept. {resume_hint}"
        ) from None
    _report_outcome(rebuild)


async def _drive_and_show(context: CommandContext, rebuild_id: int, as_json: bool) -> Rebuild:
    engine = context.engine()
    backfill_shard = BackfillProcesses(context.dsn, context.key).backfill_shard

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
                if rebuild.is_over or rebuild.paused or rebuild.state == "differing":
                    return rebuild
                if driver_ended:
                    # Stopped for a pause that was over before anybody looked: it goes on.
                    task.result()
                    task = asyncio.create_task(drive_when_free(), name="rebuild")
                await asyncio.wait([task], timeout=POLL_SECONDS)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, psycopg.Error, LedgerError):
            await task
        await engine.close()


def _report_outcome(rebuild: Rebuild) -> None:
    """What is said of a rebuild that stopped. Raises SettingError unless it has switched."""
    if rebuild.state == "switched":
        name_hint = rebuild.builds[0].projection if len(rebuild.builds) == 1 else "NAME"
        print(
            f"{rebuild.label}: switched to what was rebuilt. Back again: ledger projections "
            f"rollback {name_hint}; "
            f"drop what was live before: ledger projections retire {name_hint}",
            file=sys.stderr,
        )
    elif rebuild.state == "differing":
        first = rebuild.builds[0].projection
        why = f"{rebuild.error or 'what was rebuilt differs from what is live'}, so nothing was switched"
        raise SettingError(
            f"{rebuild.label}: {why}. Look: ledger projections diff {first}; then `switch {first} "
            f"--accept-differences --reason WHY`, `resume {first}` to compare again, or `cancel {first}`"
        )
    elif rebuild.state == "cancelled":
        raise SettingError(f"{rebuild.label}: the rebuild was cancelled")
    else:
        why = f": {rebuild.error}" if rebuild.error else ""
        raise SettingError(
            f"{rebuild.label}: paused{why}; go on with: ledger projections resume "
            f"{rebuild.builds[0].projection}"
        )

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
from projections.engine.registry import PROJECTIONS
from projections.operate.progress import Progress
from projections.operate.shell import Shell, run
from projections.rebuild import records
from projections.rebuild.driver import drive
from projections.rebuild.processes import Workers
from projections.rebuild.records import Rebuild

POLL_SECONDS = 0.5


def see_through(begin: Callable[[Shell], Awaitable[int]], name: str, *, as_json: bool) -> None:
    """Drive and show the rebuild of which `begin` gives the number, and `name` is a view.

    Raises SettingError, telling how to go on, unless it has switched.
    """

    async def watch(shell: Shell) -> Rebuild:
        return await _watched(shell, await begin(shell), as_json)

    go_on = f"A running worker goes on with it, if there is one; else: ledger projections resume {name}"
    try:
        found = run(watch)
    except KeyboardInterrupt:
        raise SettingError(
            f"interrupted; what is filled is kept. {go_on}. To end it: ledger projections cancel {name}"
        ) from None
    except Unavailable as error:
        raise SettingError(f"the database went away ({error}); what is filled is kept. {go_on}") from None
    _end(found)


async def _watched(shell: Shell, number: int, as_json: bool) -> Rebuild:
    engine = shell.engine()
    fill = Workers(shell.dsn, shell.key).fill

    async def driving() -> None:
        while True:
            if await drive(shell.dsn, shell.clock, engine, PROJECTIONS, number, fill):
                return
            await asyncio.sleep(POLL_SECONDS)

    task = asyncio.create_task(driving(), name="rebuild")
    try:
        with Progress(as_json=as_json) as progress:
            while True:
                ended = task.done()
                found = await records.load(shell.conn, number)
                progress.show(found, await records.size(shell.conn, found))
                if found.over or found.paused or found.state == "differing":
                    return found
                if ended:
                    # Stopped for a pause that was over before anybody looked: it goes on.
                    task.result()
                    task = asyncio.create_task(driving(), name="rebuild")
                await asyncio.wait([task], timeout=POLL_SECONDS)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, psycopg.Error, LedgerError):
            await task
        await engine.close()


def _end(found: Rebuild) -> None:
    """What is said of a rebuild that stopped. Raises SettingError unless it has switched."""
    if found.state == "switched":
        each = found.builds[0].projection if len(found.builds) == 1 else "NAME"
        print(
            f"{found.names}: switched to what was rebuilt. Back again: ledger projections rollback {each}; "
            f"drop what was live before: ledger projections retire {each}",
            file=sys.stderr,
        )
    elif found.state == "differing":
        first = found.builds[0].projection
        why = f"{found.error or 'what was rebuilt differs from what is live'}, so nothing was switched"
        raise SettingError(
            f"{found.names}: {why}. Look: ledger projections diff {first}; then `switch {first} "
            f"--accept-differences --reason WHY`, `resume {first}` to compare again, or `cancel {first}`"
        )
    elif found.state == "cancelled":
        raise SettingError(f"{found.names}: the rebuild was cancelled")
    else:
        why = f": {found.error}" if found.error else ""
        raise SettingError(
            f"{found.names}: paused{why}; go on with: ledger projections resume {found.builds[0].projection}"
        )

"""The backfill processes of a rebuild: one a shard, each ending with the process that started it.

Backfilling is computing, so it stays out of a process that answers requests, and uses one core a process.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

from ledger.keys.service_keys import ServiceKeys
from projections.rebuild.shards import BackfillFailed

EXIT_STOPPED = 3
"""Exit status of a backfill process that stopped before its shard was done, for a pause or a cancel."""


class BackfillProcesses:
    """Starts backfill processes against one database."""

    def __init__(self, dsn: str, service_keys: ServiceKeys | bytes) -> None:
        self._settings = {"LEDGER_DATABASE_URL": dsn} | ServiceKeys.of(service_keys).to_settings()

    async def backfill_shard(self, rebuild_id: int, shard: int) -> bool:
        """Backfill a shard in a process of its own; False when it stopped before the shard was done. Raises
        BackfillFailed with the last line of its standard error."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "ledger", "projections", "fill", str(rebuild_id), str(shard),
            env=os.environ | self._settings, stdin=PIPE, stdout=DEVNULL, stderr=PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            last_line = await _read_last_error_line(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in (0, EXIT_STOPPED):
            raise BackfillFailed(last_line or f"a backfill process ended with status {process.returncode}")
        return process.returncode == 0


async def _read_last_error_line(process: Process) -> str:
    """The last line of its standard error, once it has ended. Not communicate(): that would close the pipe
    to its standard input, which tells it that its parent has ended."""
    assert process.stderr is not None
    lines = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
    await process.wait()
    return lines[-1] if lines else ""

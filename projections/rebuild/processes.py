"""The processes that fill a rebuild: one a share, each ending with the process that started it.

A rebuild is computing, so it is kept out of a process that answers requests, and uses as many cores as it
is given workers.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

from projections.rebuild.shards import FillFailed

STOPPED = 3
"""Exit status of a worker that was told to stop before its share was done."""


class Workers:
    """Runs workers against one database."""

    def __init__(self, dsn: str, key: bytes) -> None:
        self._settings = {"LEDGER_DATABASE_URL": dsn, "LEDGER_SECRET_KEY": key.decode()}

    async def fill(self, rebuild: int, share: int) -> bool:
        """Whether the share is done. Raises FillFailed with what the worker said at its end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ledger", "projections", "fill", str(rebuild), str(share),
            env=os.environ | self._settings, stdin=PIPE, stdout=DEVNULL, stderr=PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            said = await _said(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode not in (0, STOPPED):
            raise FillFailed(said or f"a worker ended with status {process.returncode}")
        return process.returncode == 0


async def _said(process: Process) -> str:
    """The last line on its standard error, once it has ended. Not communicate(): that would close the
    pipe on its standard input, which tells it that we are gone."""
    assert process.stderr is not None
    lines = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
    await process.wait()
    return lines[-1] if lines else ""

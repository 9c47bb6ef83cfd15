"""The file of the newest kept checkpoint: rewritten when it changes, never when the log was rolled back."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from ledger.tlog.notes import parse_note, sign_text
from ledger.tree.checkpoint_file import CheckpointFile, read_checkpoint_file
from ledger.tree.witnesses.cosignatures import store_cosignatures
from tests.conftest import Cluster
from tests.tree.test_witnesses import WITNESS_KEY
from tests.tree.witnessed import ASKED_AGAIN_SOON, NEVER_ASKED_AGAIN, SealedLog, open_log


async def copy(log: SealedLog, path: Path) -> float | None:
    """What a process that starts now does with the file."""
    file = CheckpointFile(log.store, path, read_checkpoint_file(path))
    try:
        return await file.copy()
    finally:
        await file.close()


def test_the_file_follows_the_newest_checkpoint_and_its_cosignatures(dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"

    async def main() -> None:
        async with open_log(dsn) as log:
            assert await copy(log, path) == ASKED_AGAIN_SOON
            assert not path.exists()
            for growth in (1, 2, 300):
                size = await log.grow(growth)
                assert await copy(log, path) == ASKED_AGAIN_SOON
                assert path.read_text() == (await log.newest()).note
            line = sign_text((await log.newest_note()).text, WITNESS_KEY, 1_800_000_000)
            await store_cosignatures(log.conn, size, (await log.key()).name, [line])
            await copy(log, path)
            assert parse_note(path.read_text()).signatures[-1] == line
            assert stat.S_IMODE(path.stat().st_mode) == 0o644

    asyncio.run(main())
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]


def test_a_file_that_knows_more_than_the_log_or_another_one_is_kept(
    dsn: str, cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint"

    async def main(other_dsn: str) -> None:
        async with open_log(dsn) as log, open_log(other_dsn) as other:
            await log.grow(5)
            await copy(log, path)
            text = path.read_text()
            for size, error in ((4, "log_was_rolled_back"), (5, "checkpoint_file_is_of_another_log")):
                await other.grow(size - (size == 5) * 4)
                assert await copy(other, path) is NEVER_ASKED_AGAIN
                assert error in "".join(capfd.readouterr())
            assert path.read_text() == text

    with cluster.create_database() as other_dsn:
        asyncio.run(main(other_dsn))

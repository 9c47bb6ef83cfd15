"""A log that was restored to an earlier time goes on as another one, by `rotate-key --new-origin`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from ledger.errors import SettingError
from ledger.tlog.checkpoints import open_checkpoint
from ledger.tlog.keys import VerifierKey
from ledger.tlog.notes import parse_note, verify_note
from ledger.tree.keys import Keyring, list_keys
from ledger.tree.rotation import rename_log
from ledger.tree.verification import verify_log
from ledger.tree.witnesses.cosignatures import WitnessState, record_witness
from tests.conftest import Cluster
from tests.store.stores import KEY
from tests.tree.witnessed import NEVER_ASKED_AGAIN, SealedLog, open_follower, open_log
from tests.witness.server import open_witness

AT = 1_800_000_000


async def rename(log: SealedLog, origin: str) -> VerifierKey:
    rotation = await rename_log(log.conn, Keyring(KEY), origin, "restored", AT)
    [new] = rotation.current
    assert (new.name, len(rotation.retired)) == (origin, 1)
    assert verify_note(parse_note(rotation.note), [new, *rotation.retired]) == [new]
    assert (await log.newest()).note == rotation.note
    return new


def test_a_restored_log_goes_on_as_another_log_with_the_same_witness(
    dsn: str, cluster: Cluster, tmp_path: Path
) -> None:
    """The backup has 5 records, and the witness cosigned 10."""

    async def begin() -> None:
        async with open_log(dsn) as log:
            await log.grow(5)
            keys.update(await log.logs())

    async def go_on() -> None:
        async with open_log(dsn) as log, open_follower(log, witness.address) as follower:
            await log.grow(5)
            await follower.advance()

    async def go_on_from_the_backup(backup: str) -> None:
        async with open_log(backup) as log:
            await record_witness(log.conn, witness.address.id, 5, WitnessState.COSIGNS, None)
            async with open_follower(log, witness.address) as follower:
                assert await follower.advance() is NEVER_ASKED_AGAIN
            new = await rename(log, "ledger.example.com/restored")
            keys[new.name] = [new]

    async def be_cosigned(backup: str) -> None:
        async with open_log(backup) as log:
            async with open_follower(log, witness.address) as follower:
                await follower.advance()
                assert await log.states() == [(5, "cosigns", None)]
                await log.grow(2)
                await follower.advance()
            kept = await log.newest()
            assert (kept.size, kept.cosignatures) == (7, 1)
            new = await log.key()
            assert open_checkpoint(kept.note, new).origin == new.name
            verified = await verify_log(log.conn, Keyring(KEY))
            assert (verified.findings, verified.origin) == ([], new.name)

    keys: dict[str, list[VerifierKey]] = {}
    asyncio.run(begin())
    template = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with cluster.create_database(str(template)) as backup:
        with open_witness(tmp_path, keys) as witness:
            asyncio.run(go_on())
            asyncio.run(go_on_from_the_backup(backup))
        with open_witness(tmp_path, keys) as witness:
            asyncio.run(be_cosigned(backup))


def test_a_key_of_another_kind_has_the_new_name(dsn: str) -> None:
    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(3)
            await rename(log, "ledger.example.com/a")
            await rename(log, "ledger.example.com/b")
            await Keyring(KEY, with_ml_dsa=True).open_signer(log.conn, AT)
            current = [key.verifier.name for key in await list_keys(log.conn) if key.retired_at is None]
            assert current == ["ledger.example.com/b"] * 2

    asyncio.run(main())


def test_a_name_that_the_log_had_is_refused_and_changes_nothing(dsn: str) -> None:
    async def main() -> None:
        async with open_log(dsn) as log:
            await log.grow(3)
            old = await log.key()
            await rename(log, "ledger.example.com/a")
            before = await list_keys(log.conn)
            for name in (old.name, "ledger.example.com/a"):
                with pytest.raises(SettingError, match="the log is or was named"):
                    await rename_log(log.conn, Keyring(KEY), name, "", AT)
            assert await list_keys(log.conn) == before

    asyncio.run(main())

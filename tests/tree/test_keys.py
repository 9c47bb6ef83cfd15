"""The log's signing keys: made once, rotated without a break for verifiers, and never shown."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger.config import load_settings
from ledger.errors import DamagedTree, SettingError
from ledger.postgres.connections import Conn, fetch_all, open_connection
from ledger.store.store import Store
from ledger.tlog.checkpoints import open_checkpoint
from ledger.tlog.cosignatures import cosign
from ledger.tlog.keys import SignerKey, VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import parse_note, verify_note
from ledger.tlog.signed_messages import SignatureType
from ledger.tree.keys import Keyring, list_keys
from ledger.tree.rotation import rotate_keys
from ledger.tree.sealer import Sealer
from ledger.tree.storage import read_tree_head
from tests.store.stores import KEY, open_store
from tests.tree.sealed import append_customers

_KEYS = "SELECT id, algorithm, sealed_private_key FROM ledger.signing_keys ORDER BY created_at, id"


def seal_and(dsn: str, keyring: Keyring, action: Any) -> None:
    """Seal five records, then run `action(conn, store, sealer)`."""

    async def main() -> None:
        async with open_store(dsn) as store, open_connection(dsn, "ledger_api", name="keys") as conn:
            sealer = Sealer(store, keyring, pause_ms=1, checkpoint_seconds=60)
            try:
                await append_customers(store, 0, 5)
                await sealer.seal()
                await action(conn, store, sealer)
            finally:
                await sealer.close()

    asyncio.run(main())


def test_a_rotation_is_signed_by_both_keys_and_later_checkpoints_by_the_new_one(dsn: str) -> None:
    async def action(conn: Conn, store: Store, sealer: Sealer) -> None:
        old_note = (await read_tree_head(conn)).note
        [old] = [key.verifier for key in await list_keys(conn)]
        rotation = await rotate_keys(conn, Keyring(KEY), "yearly", 1_800_000_000)
        [new] = rotation.current
        assert rotation.retired == (old,)
        assert (new.name, new.key_id == old.key_id) == (old.name, False)
        assert open_checkpoint(rotation.note, old) == open_checkpoint(rotation.note, new)
        assert (await read_tree_head(conn)).note == rotation.note
        [[kept]] = await fetch_all(conn, "SELECT note FROM ledger.checkpoints WHERE size = 5")
        assert open_checkpoint(kept, old) == open_checkpoint(kept, new)
        await append_customers(store, 5, 7)
        await sealer.seal()
        note = (await read_tree_head(conn)).note
        assert open_checkpoint(note, new).size == 7
        with pytest.raises(ProofError):
            open_checkpoint(note, old)
        assert open_checkpoint(old_note, old).size == 5
        described = [(str(key.verifier), key.retired_at is None, key.reason) for key in await list_keys(conn)]
        assert described == [(str(new), True, ""), (str(old), False, "yearly")]

    seal_and(dsn, Keyring(KEY, origin="ledger.example.com/log"), action)


def test_a_rotation_keeps_the_cosignatures_of_the_checkpoint(dsn: str) -> None:
    witness = SignerKey.make("witness.example.com/w", bytes(32), SignatureType.COSIGNATURE_ED25519)

    async def action(conn: Conn, store: Store, sealer: Sealer) -> None:
        note = parse_note((await read_tree_head(conn)).note)
        cosigned = note.merge([cosign(note.text, witness, 1_800_000_000)]).to_text()
        await conn.execute("UPDATE ledger.checkpoints SET note = %s, cosignatures = 1", (cosigned,))
        rotation = await rotate_keys(conn, Keyring(KEY), "", 1_800_000_000)
        assert len(parse_note(rotation.note).signatures) == 3
        for key in (*rotation.retired, *rotation.current, witness.verifier):
            assert verify_note(parse_note(rotation.note), [key]) == [key]

    seal_and(dsn, Keyring(KEY), action)


def test_a_private_key_is_stored_sealed_and_bound_to_its_row(dsn: str) -> None:
    async def action(conn: Conn, store: Store, sealer: Sealer) -> None:
        async with conn.transaction(force_rollback=True):
            signer = await Keyring(KEY).open_signer(conn, 0)
            [(_, _, sealed)] = await fetch_all(conn, _KEYS)
            assert signer.keys[0].seed not in sealed
            for text in (repr(signer), str(signer.keys)):
                assert signer.keys[0].seed.hex() not in text
                assert repr(signer.keys[0].seed) not in text
            with pytest.raises(DamagedTree, match="cannot be opened with the service key"):
                await Keyring(b"another service key, also of 32 bytes").open_signer(conn, 0)
            await conn.execute("UPDATE ledger.signing_keys SET id = 'logkey_another'")
            with pytest.raises(DamagedTree, match="logkey_another cannot be opened"):
                await Keyring(KEY).open_signer(conn, 0)

    seal_and(dsn, Keyring(KEY), action)


def test_the_log_can_also_sign_by_ml_dsa(dsn: str) -> None:
    pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa")

    async def action(conn: Conn, store: Store, sealer: Sealer) -> None:
        note = (await read_tree_head(conn)).note
        keys = {key.algorithm: key.verifier for key in await list_keys(conn)}
        assert set(keys) == {"ed25519", "ml-dsa-44"}
        for key in keys.values():
            assert open_checkpoint(note, VerifierKey.parse(str(key))).size == 5

    seal_and(dsn, Keyring(KEY, with_ml_dsa=True), action)


def test_the_origin_is_fixed_by_the_first_start(dsn: str) -> None:
    async def action(conn: Conn, store: Store, sealer: Sealer) -> None:
        rotation = await rotate_keys(conn, Keyring(KEY, origin="another.example.com"), "", 0)
        assert open_checkpoint(rotation.note, *rotation.current).origin == "ledger.example.com/log"

    seal_and(dsn, Keyring(KEY, origin="ledger.example.com/log"), action)


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\u00a0b", "a\tb", "x" * 256, "é" * 128])
def test_an_origin_that_no_key_can_have_is_refused(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_LOG_ORIGIN", origin)
    with pytest.raises(SettingError, match=r"LEDGER_LOG_ORIGIN: .*without spaces"):
        load_settings()

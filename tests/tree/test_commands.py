"""`ledger audit checkpoint`, `keys`, `rotate-key` and `proof`, as an operator runs them."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.accounts import create_account
from ledger.call import Cause
from ledger.clock import Clock
from ledger.config import load_settings
from ledger.postgres.connections import open_connection
from ledger.store.store import Store
from ledger.tlog.checkpoints import open_checkpoint
from ledger.tlog.keys import VerifierKey
from ledger.tlog.policies import parse_policy
from ledger.tlog.proof_files import parse_proof_file, verify_proof_file
from ledger.tree.keys import Keyring
from ledger.tree.sealer import Sealer
from tests.serving.process import SERVICE_KEY, run_ledger, run_refused
from tests.store.stores import create_customer


class Operator:
    """Runs `ledger audit` on one database."""

    def __init__(self, dsn: str, place: Path) -> None:
        self.dsn = dsn
        self.place = place
        self._settings = {"database_url": dsn, "secret_key": SERVICE_KEY}

    def run(self, *arguments: str, status: int = 0) -> str:
        completed = run_ledger(self.place / "data", "audit", *arguments, **self._settings)
        assert completed.returncode == status, completed.stderr
        return completed.stdout

    def refuse(self, *arguments: str) -> str:
        return run_refused(self.place / "data", "audit", *arguments, **self._settings)


@pytest.fixture
def operator(dsn: str) -> Iterator[Operator]:
    """With a sealed log of three records of one account."""
    place = Path(tempfile.mkdtemp(prefix="tree-"))
    asyncio.run(fill(dsn))
    yield Operator(dsn, place)
    shutil.rmtree(place)


async def fill(dsn: str) -> None:
    key = SERVICE_KEY.encode()
    store = Store(dsn, key, load_settings(), Clock())
    await store.start()
    sealer = Sealer(store, Keyring(key), pause_ms=1, checkpoint_seconds=60)
    try:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            account = await create_account(conn, "A test")
        for number in range(3):
            cause = Cause(account, False, None, None, None)
            await store.journal.append(create_customer(f"cus_{number}", cause=cause))
        await sealer.seal()
    finally:
        await sealer.close()
        await store.close()


def test_the_checkpoint_is_printed_written_and_rotated(operator: Operator) -> None:
    file = operator.place / "checkpoint"
    printed = operator.run("checkpoint")
    operator.run("checkpoint", "--out", str(file))
    assert file.read_text() == printed
    assert [path.name for path in operator.place.iterdir() if path.name.startswith("checkpoint")] == [
        file.name
    ]
    [old] = json.loads(operator.run("keys", "--json"))
    assert open_checkpoint(printed, VerifierKey.parse(old["key"])).size == 3
    rotated = json.loads(operator.run("rotate-key", "--reason", "a test", "--json"))
    assert rotated["retired"] == [old["key"]]
    described = json.loads(operator.run("checkpoint", "--json"))
    for key in (*rotated["current"], *rotated["retired"]):
        assert open_checkpoint(described["checkpoint"], VerifierKey.parse(key)).size == 3
    assert "a test" in operator.run("keys")
    assert "--out: " in operator.refuse("checkpoint", "--out", str(operator.place / "none" / "file"))


def test_a_proof_is_printed_for_a_record_of_the_account(operator: Operator) -> None:
    proof = parse_proof_file(operator.run("proof", "2"))
    [key] = json.loads(operator.run("keys", "--json"))
    policy = parse_policy(f"log {key['key']}\nquorum none\n".encode())
    assert verify_proof_file(proof, None, policy).checkpoint.size == 3
    assert "No such record: '2'" in operator.refuse("proof", "2", "--live")


def test_the_status_shows_a_sealer_that_has_stopped(operator: Operator) -> None:
    assert json.loads(operator.run("checkpoint", "--status", "--json"))["stuck"] is False
    with psycopg.connect(operator.dsn, autocommit=True) as superuser:
        superuser.execute(b"UPDATE ledger.tree_head SET error = 'the log ends at position 2'")
    assert "the log ends at position 2: see docs/operations.md" in operator.run(
        "checkpoint", "--status", status=1
    )

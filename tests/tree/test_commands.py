"""`ledger audit checkpoint`, `keys`, `rotate-key` and `proof`, as an operator runs them."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger.accounts import create_account
from ledger.call import Cause
from ledger.cli.audit.group import COMMANDS
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
from tests.serving.process import (
    PROGRAM,
    SERVICE_KEY,
    build_environment,
    open_unread_pipe,
    run_into,
    run_ledger,
    run_refused,
)
from tests.store.stores import create_customer


class Operator:
    """Runs `ledger audit` on one database."""

    def __init__(self, dsn: str, place: Path) -> None:
        self.dsn = dsn
        self.place = place
        self._settings: dict[str, Any] = {"database_url": dsn, "secret_key": SERVICE_KEY}

    def run(self, *arguments: str, status: int = 0) -> str:
        completed = run_ledger(self.place / "data", "audit", *arguments, **self._settings)
        assert completed.returncode == status, completed.stderr
        return completed.stdout

    def run_any(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever its exit status is."""
        return run_ledger(self.place / "data", "audit", *arguments, **self._settings)

    @property
    def environment(self) -> dict[str, str]:
        return build_environment(self.place / "data", **self._settings)

    def run_into(self, output: int, *arguments: str) -> tuple[int, str]:
        return run_into(output, self.place / "data", "audit", *arguments, **self._settings)

    def query(self, statement: str) -> list[Any]:
        with psycopg.connect(self.dsn) as conn:
            return conn.execute(statement.encode()).fetchall()

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


def test_every_command_that_reads_the_database_is_recorded(operator: Operator) -> None:
    """Those about the whole log under the account `*`."""
    arguments = {
        "object": ["cus_1"],
        "history": ["cus_1"],
        "diff": ["cus_1", "--from", "position:1", "--to", "position:3"],
        "list": ["customer"],
        "event": ["1"],
        "find": ["cus_1"],
        "proof": ["1"],
        "archive": [str(operator.place / "archive"), "--before", "4"],
    }
    log_commands = {"archive", "verify", "reconcile", "checkpoint", "keys", "rotate-key", "witnesses"}
    offline = {"verify-export", "verify-archive"}
    for name in COMMANDS:
        if name not in (*offline, "accesses"):
            operator.run_any(name, *arguments.get(name, []))
    whole = json.loads(operator.run("accesses", "--account", "*", "--limit", "100", "--json"))["data"]
    own = json.loads(operator.run("accesses", "--limit", "100", "--json"))["data"]
    assert {each["action"] for each in whole} == {
        f"ledger audit {name}" for name in (*log_commands, "accesses")
    }
    assert {each["action"] for each in own} == {
        f"ledger audit {name}" for name in COMMANDS.keys() - log_commands - offline
    }
    assert {(each["actor"], bool(each["operator"])) for each in (*whole, *own)} == {("cli", True)}


def test_reconciling_one_account_is_recorded_in_both_of_its_modes(operator: Operator) -> None:
    [account] = operator.query("SELECT id FROM ledger.accounts")
    operator.run_any("reconcile", "--account", account[0])
    recorded = operator.query("SELECT account, livemode, action FROM ledger.audit_accesses ORDER BY number")
    assert recorded == [(*account, livemode, "ledger audit reconcile") for livemode in (False, True)]
    assert "no such account" in operator.refuse("reconcile", "--account", "*")


def test_a_command_that_cannot_be_recorded_is_not_answered(operator: Operator) -> None:
    with psycopg.connect(operator.dsn, autocommit=True) as superuser:
        superuser.execute(b"REVOKE INSERT ON ledger.audit_accesses FROM ledger_api")
    before = operator.query("SELECT id, retired_at FROM ledger.signing_keys")
    for command in ("verify", "checkpoint", "keys", "rotate-key", "witnesses", "reconcile"):
        refused = operator.run_any(command)
        assert (refused.returncode, refused.stdout) == (1, ""), command
        logged, said = refused.stderr.splitlines()
        assert json.loads(logged)["event"] == "access_not_recorded"
        assert said.startswith("ledger: This access cannot be recorded"), command
    assert operator.query("SELECT id, retired_at FROM ledger.signing_keys") == before
    assert "sealed" in operator.run("checkpoint", "--status")


@pytest.mark.parametrize("arguments", [("export",), ("keys",), ("keys", "--json")], ids=" ".join)
def test_an_answer_that_cannot_be_written_is_one_line(operator: Operator, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        assert operator.run_into(full.fileno(), *arguments) == (1, "ledger: No space left on device\n")


@pytest.mark.parametrize("arguments", [("export",), ("keys",)], ids=" ".join)
def test_whoever_stops_to_read_an_answer_is_told_nothing(
    operator: Operator, arguments: tuple[str, ...]
) -> None:
    with open_unread_pipe() as pipe:
        assert operator.run_into(pipe, *arguments) == (1, "")


def test_an_answer_goes_nowhere_if_there_is_no_standard_output(operator: Operator) -> None:
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "audit", "keys"],
        env=operator.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr) == (0, "")


def test_a_folder_is_not_the_file_of_an_export(operator: Operator) -> None:
    folder = operator.place / "folder"
    folder.mkdir()
    assert "is a directory" in operator.refuse("export", "--out", str(folder))
    assert not folder.with_name("folder.partial").exists()

"""`ledger audit verify` from a shell: what it prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import psycopg

from tests.serving.process import run_ledger
from tests.store.stores import KEY


def run_verify(dsn: str, place: Path, *options: str) -> CompletedProcess[str]:
    on = {"database_url": dsn, "secret_key": KEY.decode()}
    return run_ledger(place / "data", "audit", "verify", *options, **on)


def test_the_sealed_log_is_verified_against_a_checkpoint_kept_elsewhere(
    sealed_dsn: str, tmp_path: Path
) -> None:
    with psycopg.connect(sealed_dsn) as conn:
        row = conn.execute("SELECT note FROM ledger.tree_head").fetchone()
    assert row is not None
    (tmp_path / "checkpoint").write_text(row[0])
    done = run_verify(sealed_dsn, tmp_path, "--against", "checkpoint")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Verified: 5 events of the log ledger/")
    facts = json.loads(run_verify(sealed_dsn, tmp_path, "--json").stdout)
    assert (facts["verified"], facts["sealed"], facts["findings"]) == (True, 5, [])

    (tmp_path / "checkpoint").write_text(row[0].replace("\n5\n", "\n6\n"))
    done = run_verify(sealed_dsn, tmp_path, "--against", "checkpoint")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("checkpoint: the signature of 'ledger/")
    done = run_verify(sealed_dsn, tmp_path, "--against", "missing")
    assert (done.returncode, done.stderr) == (1, "ledger: cannot read missing: No such file or directory\n")


def test_a_difference_is_one_line_and_a_status(dsn: str, tmp_path: Path) -> None:
    """Here: nothing was ever sealed, but a projection has applied more than there is."""
    with psycopg.connect(dsn) as conn:
        conn.execute(
            "INSERT INTO projections.checkpoints (projection, generation, position, recorded_at)"
            " VALUES ('charges', 1, 2, now())"
        )
    done = run_verify(dsn, tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("the log reached position 2")
    assert lines[-2:] == ["The first difference is at position 1.", "NOT VERIFIED."]
    facts = json.loads(run_verify(dsn, tmp_path, "--json").stdout)
    assert facts["first_difference"] == {"after": 0, "upto": 1}

"""`ledger import` and `ledger keys roll` from a shell, on a database without a running service."""

from __future__ import annotations

import json
from pathlib import Path

from tests.serving.process import SERVICE_KEY, run_ledger, run_refused


def test_a_file_is_imported_and_importing_it_again_changes_nothing(place: Path, dsn: str) -> None:
    data, on = place / "data", {"database_url": dsn, "secret_key": SERVICE_KEY}
    shop = run_ledger(data, "accounts", "create", "Shop", **on).stdout.strip()
    connected = run_ledger(data, "accounts", "create", "Branch", "--platform", shop, **on).stdout.strip()
    file = place / "history.ndjson"
    lines: list[dict[str, object]] = [
        {"op": "customer", "id": "cus_1", "name": "Ada"},
        {"op": "charge", "id": "ch_1", "customer": "cus_1", "amount": 2000, "currency": "usd"},
        {"op": "dispute", "id": "du_1", "charge": "ch_1", "kind": "chargeback", "reference": "net-1"},
        {"op": "file", "id": "file_1", "purpose": "dispute_evidence", "content": "JVBERi0xLjQ="},
        {"op": "event", "id": "evt_1", "type": "invoice.paid", "object": {"id": "in_1"}},
        {"op": "event", "id": "evt_2", "type": "invoice.paid", "object": {}, "account": connected},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = run_ledger(data, "import", str(file), "--account", shop, **on)
    assert (first.returncode, first.stdout) == (0, ""), first
    assert "6 lines" in first.stderr
    assert "6 changed, 0 unchanged, 0 refused" in first.stderr
    stranger = json.dumps(lines[-1] | {"account": "acct_none"}) + "\n"
    file.write_text(file.read_text() + stranger + '{"op": "fact", "dispute": "du_1", "fact": "escalated"}\n')
    again = run_ledger(data, "import", str(file), "--account", shop, **on)
    assert again.returncode == 1
    assert "0 changed, 6 unchanged, 2 refused" in again.stderr
    out_of_reach, malformed = [json.loads(line) for line in again.stdout.splitlines()]
    assert (out_of_reach["line"], out_of_reach["error"]["code"]) == (7, "account_invalid")
    assert (malformed["line"], malformed["error"]["param"]) == (8, "reference")


def test_a_file_or_account_that_cannot_be_used_is_reported_in_one_line(place: Path, dsn: str) -> None:
    data, on = place / "data", {"database_url": dsn, "secret_key": SERVICE_KEY}
    assert "cannot read" in run_refused(data, "import", str(place / "nothing.ndjson"), **on)
    file = place / "empty.ndjson"
    file.touch()
    assert "no such account" in run_refused(data, "import", str(file), "--account", "acct_none", **on)


def test_a_key_is_rolled_with_an_overlap(place: Path, dsn: str) -> None:
    data, on = place / "data", {"database_url": dsn, "secret_key": SERVICE_KEY}
    account = run_ledger(data, "accounts", "create", "Other", **on).stdout.strip()
    made = run_ledger(
        data, "keys", "create", account, "--kind", "rk", "--scope", "catalog", **on
    ).stdout.split()
    rolled = run_ledger(data, "keys", "roll", made[1], "--overlap", "3600", **on)
    assert rolled.returncode == 0, rolled
    secret = rolled.stdout.split()[3]
    assert secret.startswith("rk_test_")
    listed = run_ledger(data, "keys", "list", "--account", account, **on).stdout.splitlines()
    assert len(listed) == 3
    assert all("catalog" in line and "active" in line and "never" in line for line in listed[1:])
    assert "--overlap" in run_refused(data, "keys", "roll", made[1], "--overlap", "-1", **on)
    assert "No such key" in run_refused(data, "keys", "roll", "key_none", **on)

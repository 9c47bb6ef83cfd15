"""`ledger config`: what it shows of the settings in force, and what of secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ledger.cli.settings import describe_settings, mask_database_url
from ledger.config import Settings, load_settings

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LEDGER_")]:
        monkeypatch.delenv(name)


def test_every_setting_is_described_with_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEDGER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LEDGER_DRAIN_SECONDS", "8")
    monkeypatch.setenv("LEDGER_WEBHOOK_RETRY_SECONDS_TEST", "1,2.5")
    rows = {row["name"]: row for row in describe_settings(load_settings())}
    assert rows.keys() == {f"LEDGER_{name.upper()}" for name in Settings.model_fields}
    drain = rows["LEDGER_DRAIN_SECONDS"]
    assert (drain["value"], drain["unit"], drain["source"], drain["default"]) == (
        8,
        "seconds",
        "environment",
        8,
    )
    assert (rows["LEDGER_PORT"]["value"], rows["LEDGER_PORT"]["source"]) == (4242, "default")
    assert rows["LEDGER_WEBHOOK_RETRY_SECONDS_TEST"]["value"] == [1, 2.5]
    for name, row in rows.items():
        is_time = re.search(r"_(MS|SECONDS|DAYS|BYTES)(_|$)", name)
        assert bool(is_time) <= bool(row["unit"]), name
    assert rows["LEDGER_SECRET_KEY"]["value"] == f"made at the first start, in {tmp_path}/secret.key"
    (tmp_path / "secret.key").write_text(KEY)
    key = {row["name"]: row for row in describe_settings(load_settings())}["LEDGER_SECRET_KEY"]
    assert (key["value"], key["source"]) == (f"read from {tmp_path}/secret.key", "file")


def test_described_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_DATABASE_URL", "postgresql://ada:lovelace@db/ledger")
    monkeypatch.setenv("LEDGER_REPLICA_URL", "postgresql://ada:lovelace@replica/ledger")
    monkeypatch.setenv("LEDGER_SECRET_KEY", KEY)
    rows = {row["name"]: row for row in describe_settings(load_settings())}
    assert rows["LEDGER_DATABASE_URL"]["value"] == "postgresql://ada@db/ledger"
    assert rows["LEDGER_REPLICA_URL"]["value"] == "postgresql://ada@replica/ledger"
    assert rows["LEDGER_SECRET_KEY"]["value"] == "set, 32 characters"
    assert not re.search("lovelace|abcdef", str(rows))


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://ada:lovelace@db:5433/ledger", "postgresql://ada@db:5433/ledger"),
        ("postgresql://ada@a:1,b:2/x?password=lovelace", "postgresql://ada@a:1,b:2/x"),
        ("postgresql://ada:love%40lace@a,b/x", "postgresql://ada@a,b/x"),
        ("host=/run/postgresql dbname=x password='love lace'", "postgresql://%2Frun%2Fpostgresql/x"),
        (
            "postgresql://db/x?sslmode=verify-full&sslrootcert=/etc/ca.pem&sslpassword=lovelace",
            "postgresql://db/x?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        ),
        ("postgresql://ada:love/lace@db/x", "not a valid connection string"),
        ("postgresql://ada:1/love@db/x", "not a valid connection string"),
        ("postgresql://ada:a@love@db/x", "not a valid connection string"),
        ("nonsense lovelace", "not a valid connection string"),
    ],
)
def test_a_database_url_is_shown_without_its_passwords(url: str, masked: str) -> None:
    assert mask_database_url(url) == masked
    assert "love" not in masked

"""The SQL function `ledger.record_digest` and Python agree on the canonical form of every record."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.tree.records import Record, derive_entry
from tests.conftest import Cluster

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# As stored, without storing it: some of these values would break a constraint of the table.
_DIGEST = """
SELECT ledger.record_digest(ROW(%(position)s, %(stream)s, %(version)s, %(topic)s, %(state)s, %(account)s,
    %(livemode)s, %(actor)s, %(request_id)s, %(idempotency_key)s, %(causation)s, %(customer)s, %(charge)s,
    %(payment_intent)s, %(recorded_at)s)::ledger.events)
"""

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200) | st.sampled_from(
    ["", "\\", "\\x41", "\\\\101", "'", "é" * 3000, "🧾", "\ud7ff\ue000", "a\r\n\tb", " ", "null"]
)
nullable = st.none() | texts
records = st.builds(
    Record,
    position=st.integers(-(2**63), 2**63 - 1),
    stream=texts,
    version=st.integers(-(2**31), 2**31 - 1),
    topic=texts,
    account=texts,
    livemode=st.booleans(),
    actor=nullable,
    request_id=nullable,
    idempotency_key=nullable,
    causation=nullable,
    customer=nullable,
    charge=nullable,
    payment_intent=nullable,
    recorded_at=st.integers(-62_000_000_000_000_000, 250_000_000_000_000_000)
    | st.sampled_from([0, -1, 1, 999_999, -999_999, 1_700_000_000_000_001]),
    state=st.binary(max_size=300) | st.sampled_from([b"", b"\\x00", b"\0\xff", b"{" * 70_000]),
)


@pytest.fixture(scope="module")
def conn(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    with cluster.create_database() as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        yield conn


@settings(max_examples=300)
@given(record=records)
def test_the_database_and_python_derive_the_same_entry(conn: psycopg.Connection[Any], record: Record) -> None:
    assert digest(conn, record) == derive_entry(record)


@pytest.mark.parametrize(
    "setting", ["timezone = 'Asia/Kolkata'", "datestyle = 'German, DMY'", "bytea_output = escape"]
)
def test_the_entry_does_not_depend_on_settings_of_the_session(
    conn: psycopg.Connection[Any], setting: str
) -> None:
    record = Record(
        7, "cus_1", 2, "customer.updated", "acct_1", True, None, "req_1", None, "é\\", None, None, None,
        1_700_000_000_123_456, b'{"a":1}',
    )  # fmt: skip
    with conn.transaction(force_rollback=True):
        conn.execute(f"SET LOCAL {setting}".encode())
        assert digest(conn, record) == derive_entry(record)


def digest(conn: psycopg.Connection[Any], record: Record) -> bytes:
    parameters = {name: getattr(record, name) for name in record.__struct_fields__}
    parameters["recorded_at"] = _EPOCH + timedelta(microseconds=record.recorded_at)
    row = conn.cursor(binary=True).execute(_DIGEST, parameters).fetchone()
    assert row is not None
    return bytes(row[0])

"""Which partitions of `ledger.data_keys` are read by what runs for each request, page or upload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from ledger.erasure import closure, issuance, purge, remnants
from ledger.erasure.service import _SETTINGS
from ledger.files import storage
from ledger.keys import data_keys, rotation
from ledger.postgres.connections import READ_PLANNER_SETTINGS
from ledger.store.log import PLANNER_SETTINGS
from tests.conftest import Cluster, as_options

GROUPS, GROUP_KEYS = 200, 20
JOB = "prj_1"
ASKED = (
    [f"cus_{7:06}{n:016}" for n in range(5)] + [f"cus_{8:06}{n:016}" for n in range(5)] + ["Ada@shop.example"]
)
"""Of two groups of ids as ours are, and one of another form."""
PARTITIONS_MAX = 3

_FILL = """
INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by)
SELECT 'cus_' || lpad(g::text, 6, '0') || lpad(n::text, 16, '0'), 'wrap'::bytea, 'old'
FROM generate_series(1, %(groups)s) AS g, generate_series(0, %(keys)s - 1) AS n
UNION ALL SELECT 'Ada@shop.example', 'wrap'::bytea, 'old';
"""
_ERASE = """
INSERT INTO ledger.erasures (job, account, livemode, subjects, requested_position)
    VALUES (%(job)s, 'acct_1', false, %(subjects)s, 1)
"""
_FIND_STREAMS = (
    "INSERT INTO ledger.erasure_streams (job, stream) SELECT %(job)s, unnest(%(subjects)s::text[])"
)
_READ = """
SELECT relname FROM pg_stat_xact_user_tables WHERE relname ~ '^data_keys_' AND (seq_scan > 0 OR idx_scan > 0)
"""
NAMED = {
    "job": JOB, "account": "acct_1", "livemode": False, "subjects": ASKED, "found": ASKED,
    "after": "", "limit": 100, "target": "new", "wraps": [b"wrap"] * len(ASKED),
}  # fmt: skip
STATEMENTS: Mapping[str, tuple[str, Mapping[str, str], Any]] = {
    "keys of a request": (data_keys._SELECT_KEYS, READ_PLANNER_SETTINGS, NAMED),
    "keys of a batch": (data_keys._SELECT_KEYS, PLANNER_SETTINGS, NAMED),
    "begin of an erasure": (closure._BEGIN_ERASING, PLANNER_SETTINGS, NAMED),
    "subjects of a closure": (closure._NEW_SUBJECTS, _SETTINGS, NAMED),
    "remnants": (remnants._ERASING, _SETTINGS, NAMED),
    "files of an erasure": (purge._DELETE_CHUNKS, _SETTINGS, NAMED),
    "certificate": (issuance._LEFT, _SETTINGS, NAMED),
    "rotation": (rotation._UPDATE_KEYS, rotation.SESSION_SETTINGS, NAMED),
    "refused upload": (storage._DELETE_CHUNKS, READ_PLANNER_SETTINGS, (ASKED[0],) * 3),
}


@pytest.fixture(scope="module", params=["counts as empty", "is analyzed"])
def filled(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Keys in all partitions, and an erasure of some of them."""
    with cluster.create_database() as dsn:
        with psycopg.connect(dsn) as conn:
            conn.execute(_FILL, {"groups": GROUPS, "keys": GROUP_KEYS})
            conn.execute(_ERASE, NAMED)
            conn.execute(_FIND_STREAMS, NAMED)
            if request.param == "is analyzed":
                conn.execute("ANALYZE ledger.data_keys, ledger.erasure_streams")
        yield dsn


@pytest.mark.parametrize("name", STATEMENTS)
def test_only_partitions_of_the_named_subjects_are_read(filled: str, name: str) -> None:
    statement, settings, parameters = STATEMENTS[name]
    with psycopg.connect(filled, options=as_options(settings)) as conn:
        conn.execute(statement.encode(), parameters, prepare=True)
        read = conn.execute(_READ).fetchall()
        conn.rollback()
    assert len(read) <= PARTITIONS_MAX, read


def test_the_group_is_computed_in_place(filled: str) -> None:
    """Called as a function, once for each key and again for each comparison, it takes seven times as long."""
    with psycopg.connect(filled) as conn:
        plan = conn.execute("EXPLAIN (VERBOSE) SELECT ledger.key_group(subject) FROM ledger.data_keys_0")
        lines = [line for (line,) in plan]
    assert any("hashtextextended" in line for line in lines)
    assert not any("key_group" in line for line in lines)

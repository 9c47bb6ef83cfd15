"""The log that the benchmarks of the audit API are measured on is like one that the service wrote."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from benchmarks.audit import ground
from ledger.store.codec import Codec
from projections.read_models.audit_index import AUDIT_INDEX
from tests.projections.histories import KEY, catch_up

_LOG = "SELECT count(*), max(notification_id), count(DISTINCT topic) FROM ledger.events"
_INDEX = "SELECT * FROM projections.audit_keys ORDER BY id"
_EMPTY_INDEX = """
DELETE FROM projections.audit_keys;
UPDATE projections.checkpoints SET position = 0 WHERE projection = 'audit_keys'
"""


def test_the_index_has_the_rows_that_the_projection_writes(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The projection folds every stream, so this shows too that all events can be decoded."""
    monkeypatch.setattr(ground, "STORY_EVENTS_MAX", 700)
    ground.fill_log(dsn, Codec(KEY), 2500)
    asyncio.run(ground.fill_index(dsn))
    with psycopg.connect(dsn, autocommit=True) as conn:
        assert (conn.execute(_LOG).fetchone() or ())[:2] == (2500, 2500)
        filled = conn.execute(_INDEX).fetchall()
        conn.execute(_EMPTY_INDEX)
        asyncio.run(catch_up(dsn, projections=[AUDIT_INDEX]))
        assert conn.execute(_INDEX).fetchall() == filled
    assert len(filled) == 2500

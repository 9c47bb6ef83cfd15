"""What the rows of an event cost on disk: how many indexes a table has, and that they hold no texts."""

from __future__ import annotations

import psycopg
import pytest

_INDEXES = """
SELECT relation.relname, count(*) FROM pg_index JOIN pg_class relation ON relation.oid = indrelid
WHERE relation.relnamespace = 'projections'::regnamespace AND relation.relkind = 'p' GROUP BY 1
"""
_WITH_TEXTS = """
SELECT index.relname FROM pg_index JOIN pg_class index ON index.oid = indexrelid
WHERE index.relnamespace = 'projections'::regnamespace AND index.relkind = 'I'
AND indrelid = ('projections.' || %s)::regclass AND NOT indisprimary
AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = indexrelid AND atttypid = 'text'::regtype)
"""


@pytest.mark.parametrize("table", ["audit_keys", "feed", "customers", "charges", "balance_transactions"])
def test_no_index_but_the_key_holds_texts(dsn: str, table: str) -> None:
    """They took 30 to 60 bytes of each entry, account and mode among them."""
    with psycopg.connect(dsn) as conn:
        assert conn.execute(_WITH_TEXTS, (table,)).fetchall() == []


def test_each_table_has_so_many_indexes(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        counts: dict[str, int] = dict(conn.execute(_INDEXES).fetchall())
    assert {name: counts[name] for name in ("audit_keys", "feed", "customers", "charges", "postings")} == {
        "audit_keys": 8, "feed": 3, "customers": 3, "charges": 5, "postings": 2,
    }  # fmt: skip

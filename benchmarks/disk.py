"""What a load left on disk: bytes of each table, with indexes apart, by row and by event; and WAL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psycopg
from psycopg.sql import SQL, Identifier

LOG = "ledger.events"

# The parts of a partitioned table count with it. A table without partitions is no partition tree.
_SIZES = """
SELECT n.nspname, c.relname, sum(pg_table_size(part.relid))::bigint, sum(pg_indexes_size(part.relid))::bigint
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT c.oid AS relid UNION SELECT relid FROM pg_partition_tree(c.oid)) part
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname IN ('ledger', 'projections')
GROUP BY n.nspname, c.relname
ORDER BY sum(pg_total_relation_size(part.relid)) DESC
"""
# What is inserted, not what is written: a commit that waits for no disk leaves that to come later.
_WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"


class TableUse(NamedTuple):
    """Rows of a table, and the bytes of the table (with TOAST) and of its indexes."""

    rows: int
    table_bytes: int
    index_bytes: int

    @property
    def bytes_per_row(self) -> float:
        """Of table and indexes together."""
        return (self.table_bytes + self.index_bytes) / self.rows if self.rows else 0.0


class DiskUse(NamedTuple):
    """All tables by name, and the WAL written so far."""

    tables: Mapping[str, TableUse]
    wal_bytes: int

    @property
    def events(self) -> int:
        """Events in the log."""
        return self.tables[LOG].rows

    @property
    def table_bytes(self) -> int:
        """Of all tables, with their indexes."""
        return sum(table.table_bytes + table.index_bytes for table in self.tables.values())


def read_disk_use(conn: psycopg.Connection) -> DiskUse:
    """Count rows and bytes of all tables of the service."""
    tables = {}
    for schema, name, table_bytes, index_bytes in conn.execute(_SIZES).fetchall():
        count = SQL("SELECT count(*) FROM {}.{}").format(Identifier(schema), Identifier(name))
        (rows,) = conn.execute(count).fetchone() or (0,)
        tables[f"{schema}.{name}"] = TableUse(rows, table_bytes, index_bytes)
    (wal_bytes,) = conn.execute(_WAL).fetchone() or (0,)
    return DiskUse(tables, wal_bytes)


def subtract(after: DiskUse, before: DiskUse) -> DiskUse:
    """What was added between two moments."""
    none = TableUse(0, 0, 0)
    return DiskUse(
        {
            name: TableUse(*_subtract_each(use, before.tables.get(name, none)))
            for name, use in after.tables.items()
        },
        after.wal_bytes - before.wal_bytes,
    )


def _subtract_each(after: Sequence[int], before: Sequence[int]) -> list[int]:
    return [later - earlier for later, earlier in zip(after, before, strict=True)]

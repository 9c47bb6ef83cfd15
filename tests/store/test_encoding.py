"""A database that cannot hold every name is refused before anything is written to it."""

from __future__ import annotations

import uuid

import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ledger.errors import SettingError
from ledger.postgres.migrations import check_schema, migrate
from tests.conftest import Cluster


def test_a_database_that_is_not_in_utf8_is_refused_in_one_line(cluster: Cluster) -> None:
    name = f"test_{uuid.uuid4().hex}"
    made = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc"
    cluster.execute(sql.SQL(made).format(sql.Identifier(name)))
    try:
        dsn = make_conninfo(cluster.maintenance_dsn, dbname=name)
        for use in (migrate, check_schema):
            with pytest.raises(SettingError, match=r"^LEDGER_DATABASE_URL: .* LATIN1, UTF8 is needed$"):
                use(dsn)
    finally:
        cluster.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

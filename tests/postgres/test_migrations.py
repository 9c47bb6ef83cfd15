"""Migrations: to this release, beside a later schema that supports it, and against locks."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.errors import SettingError
from ledger.postgres import migrations
from ledger.postgres.deployment import ANALYST
from ledger.postgres.migrations import (
    COMPRESSED_SINCE,
    REPLIES_AS_BYTES_SINCE,
    check_schema,
    migrate,
    release_version,
)
from ledger.postgres.sessions import ROLES
from tests.conftest import Cluster
from tests.serving.process import SERVICE_KEY, run_ledger

NEXT = '''"""Changes what everybody uses."""

from alembic import op

revision = "9000"
down_revision = "{previous}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '50ms'")
    op.execute("ALTER TABLE ledger.head_lock ADD COLUMN another text")
'''


def read_schema_version(dsn: str) -> str:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT version_num FROM ledger.alembic_version").fetchone()
    assert row is not None
    return str(row[0])


def install_later_schema(dsn: str, *, oldest: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.alembic_version SET version_num = '9999'")
        conn.execute("UPDATE ledger.served SET oldest = %s", (oldest,))


def test_a_later_schema_that_only_adds_is_accepted_and_not_changed(dsn: str) -> None:
    install_later_schema(dsn, oldest=release_version())
    check_schema(dsn)
    migrate(dsn)
    assert read_schema_version(dsn) == "9999"


def test_a_release_that_the_schema_no_longer_serves_is_refused(dsn: str) -> None:
    install_later_schema(dsn, oldest="9998")
    for use in (check_schema, migrate):
        with pytest.raises(SettingError, match=rf"9998 on; this release is {release_version()}: run a newer"):
            use(dsn)


def test_after_the_contract_no_older_release_starts_and_this_one_does(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.end_support(dsn)
    check_schema(dsn)
    monkeypatch.setattr(migrations, "release_version", lambda: "0018")
    with pytest.raises(SettingError, match=r"supports releases from .* on; this release is 0018"):
        check_schema(dsn)


@contextmanager
def migrate_as_owner(cluster: Cluster) -> Iterator[str]:
    """A database that an owner has migrated who is no superuser; the string logs in as him."""
    owner = sql.Identifier("test_owner")
    with cluster.create_database(template="template0") as dsn:
        database = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
        cluster.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'test'").format(owner))
        try:
            for role in (*ROLES, ANALYST):  # as if it had made them; others in this cluster did
                grant = sql.SQL("GRANT {} TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
                cluster.execute(grant.format(sql.Identifier(role), owner))
            cluster.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner))
            owned = make_conninfo(dsn, user="test_owner", password="test")
            migrate(owned)
            yield owned
        finally:
            cluster.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
            cluster.execute(sql.SQL("DROP ROLE {}").format(owner))


def test_the_owner_of_the_database_may_work_as_an_analyst(cluster: Cluster) -> None:
    """Also one who is no superuser: PostgreSQL lets who makes a role give it to others, but not take it."""
    with (
        migrate_as_owner(cluster) as owned,
        psycopg.connect(owned, options=f"-c role={ANALYST}") as conn,
    ):
        assert conn.execute("SELECT count(*) FROM reporting.charges").fetchone() == (0,)


def test_an_owner_who_may_not_see_sessions_of_others_is_told_so(cluster: Cluster, tmp_path: Path) -> None:
    with migrate_as_owner(cluster) as owned:
        settings = {"database_url": owned, "secret_key": SERVICE_KEY}
        told = run_ledger(tmp_path, "migrate", **settings)
        assert told.stdout == "The schema is up to date.\n"
        assert "GRANT pg_read_all_stats TO test_owner" in told.stderr
        cluster.execute(sql.SQL("GRANT pg_read_all_stats TO test_owner").format())
        assert run_ledger(tmp_path, "migrate", **settings).stderr == ""


@pytest.mark.parametrize("in_use", ["by an event", "by a process", ""])
def test_a_database_in_use_serves_older_releases_until_the_contract(dsn: str, in_use: str) -> None:
    """Else an older release that runs on it would meet compressed documents."""
    scripts = sorted((migrations.MIGRATIONS / "versions").glob("002[01]_*.py"))
    compressed, as_bytes = (runpy.run_path(str(script)) for script in scripts)
    with (
        psycopg.connect(dsn) as conn,
        psycopg.connect(dsn, application_name="ledger api" if in_use == "by a process" else "psql"),
    ):
        conn.execute("UPDATE ledger.served SET oldest = '0010'")
        if in_use == "by an event":
            conn.execute(
                "INSERT INTO ledger.events (notification_id, originator_id, originator_version, topic, state,"
                " account, livemode, recorded_at) VALUES (1, 'cus_1', 1, 't', '', 'acct_1', false, now())"
            )
        for statement, oldest in (
            (compressed["UPGRADE"], COMPRESSED_SINCE),
            (as_bytes["END_SUPPORT_OF_EMPTY"], REPLIES_AS_BYTES_SINCE),
        ):
            conn.execute(statement)
            row = conn.execute("SELECT oldest FROM ledger.served").fetchone()
            assert row == ("0010" if in_use else oldest,)


def test_a_migration_blocked_by_a_lock_changes_nothing_and_reports_it(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous, scripts = release_version(), tmp_path / "alembic"
    shutil.copytree(migrations.MIGRATIONS, scripts)
    (scripts / "versions" / "9000_next.py").write_text(NEXT.format(previous=previous))
    monkeypatch.setattr(migrations, "MIGRATIONS", scripts)
    monkeypatch.setattr(migrations, "MIGRATE_PAUSE_SECONDS", 0.01)
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT FROM ledger.head")
        with pytest.raises(
            SettingError, match=r"not changed because other transactions hold locks \(.*\): look for"
        ):
            migrate(dsn)
        assert read_schema_version(dsn) == previous
    migrate(dsn)
    assert read_schema_version(dsn) == "9000"


def test_an_index_of_older_releases_stays_until_each_generation_has_its_successor(dsn: str) -> None:
    """A generation from before the migration lacks the successor; one from after it has both."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE INDEX charges_newest ON projections.charges (account, livemode, created)")
        conn.execute("DROP INDEX projections.charges_hashed_newest")
        conn.execute("CREATE TABLE projections.charges_g1 PARTITION OF projections.charges FOR VALUES IN (1)")
        conn.execute(
            "CREATE INDEX charges_hashed_newest ON ONLY projections.charges"
            " (hash_record_extended(ROW (account, livemode), 0), created, position)"
        )
        conn.execute("CREATE TABLE projections.charges_g2 PARTITION OF projections.charges FOR VALUES IN (2)")
        assert migrations.end_support(dsn) == ["charges"]
        assert _count_indexes(conn, "charges_newest") == 1
        conn.execute("DROP TABLE projections.charges_g1")
        assert migrations.end_support(dsn) == []
        assert _count_indexes(conn, "charges_newest") == 0


def _count_indexes(conn: psycopg.Connection, name: str) -> int:
    return conn.execute("SELECT FROM pg_indexes WHERE indexname = %s", (name,)).rowcount

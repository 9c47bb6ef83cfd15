"""Migrations: to this release, beside a later schema that supports it, and against locks."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
import pytest

from ledger.errors import SettingError
from ledger.postgres import migrations
from ledger.postgres.migrations import check_schema, migrate, release_version

NEXT = '''"""Changes what everybody uses."""

from alembic import op

revision = "9000"
down_revision = "{previous}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '50ms'")
    op.execute("ALTER TABLE ledger.head ADD COLUMN another text")
'''


def at(dsn: str) -> str:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT version_num FROM ledger.alembic_version").fetchone()
    assert row is not None
    return str(row[0])


def moved_on(dsn: str, *, oldest: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.alembic_version SET version_num = '9999'")
        conn.execute("UPDATE ledger.served SET oldest = %s", (oldest,))


def test_a_later_schema_that_has_taken_nothing_away_is_served_and_left_alone(dsn: str) -> None:
    moved_on(dsn, oldest=release_version())
    check_schema(dsn)
    migrate(dsn)
    assert at(dsn) == "9999"


def test_a_release_that_is_not_served_any_more_is_told_so(dsn: str) -> None:
    moved_on(dsn, oldest="9998")
    for use in (check_schema, migrate):
        with pytest.raises(SettingError, match=rf"9998 on; this release is {release_version()}: run a newer"):
            use(dsn)


def test_a_migration_that_others_are_in_the_way_of_changes_nothing_and_says_so(
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
        assert at(dsn) == previous
    migrate(dsn)
    assert at(dsn) == "9000"

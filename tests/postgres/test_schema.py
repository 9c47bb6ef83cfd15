"""`docs/schema.sql` is the schema that the migrations make."""

from __future__ import annotations

from tests.postgres.schema import FILE, render_schema


def test_the_schema_file_matches_the_migrations(dsn: str) -> None:
    assert render_schema(dsn).splitlines() == FILE.read_text().splitlines(), "run: make schema"

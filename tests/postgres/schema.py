"""`docs/schema.sql`: the schema that the migrations make, for people to read in one file.

`make schema` writes it; `test_schema.py` compares it with a migrated database. It comes from the catalog, not
from pg_dump, which scatters what belongs to a table and differs from version to version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from ledger.postgres.embedded import EmbeddedPostgres
from ledger.postgres.migrations import migrate

FILE = Path(__file__).resolve().parents[2] / "docs" / "schema.sql"
SCHEMAS = ["alerts", "ledger", "projections", "reporting", "request_log", "stripe_cli", "webhooks"]
ROLES = ["ledger_analyst", "ledger_api", "ledger_projector"]
HEADING = """\
-- The database schema that the migrations in alembic/versions make: to read in one file, not to run.
-- `make schema` writes this file. A projection's table is partitioned by generation: the service makes and
-- drops the partitions while it runs.
"""

_GRANTS = """
SELECT r.rolname, string_agg(acl.privilege_type, ', ' ORDER BY acl.privilege_type)
    FROM aclexplode(%s::aclitem[]) acl JOIN pg_roles r ON r.oid = acl.grantee
    WHERE acl.grantee <> acl.grantor AND r.rolname LIKE 'ledger%%' GROUP BY 1 ORDER BY 1"""
_SCHEMA_ACLS = "SELECT nspname, nspacl::text[] FROM pg_namespace WHERE nspname = ANY (%s) ORDER BY 1"
_TABLES = """
SELECT oid, oid::regclass::text, relkind::text, pg_get_partkeydef(oid), reloptions, relacl::text[],
       nullif(pg_get_userbyid(relowner), current_user)
    FROM pg_class
    WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
    ORDER BY relkind = 'v', relname"""
_COLUMNS = """
SELECT quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
       || CASE WHEN a.attidentity <> '' THEN ' GENERATED ALWAYS AS IDENTITY' ELSE '' END
       || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), ''),
       CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage::text END
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_CONSTRAINTS = """
SELECT format('CONSTRAINT %%s %%s', conname, pg_get_constraintdef(oid, true))
    FROM pg_constraint WHERE conrelid = %s AND contype IN ('p', 'u', 'c', 'f', 'x')
    ORDER BY position(contype::text in 'puxfc'), conname"""
_INDEXES = """
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = %s AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
    ORDER BY c.relname"""
_TRIGGERS = """
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = %s AND NOT tgisinternal ORDER BY tgname"""
_TYPES = """
SELECT format('CREATE TYPE %%s AS (%%s);', c.oid::regclass, string_agg(
           format('%%I %%s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum))
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'c' GROUP BY c.oid ORDER BY c.oid"""
_COMMENTS = """
SELECT coalesce(a.attname, ''), d.description
    FROM pg_description d
    LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = nullif(d.objsubid, 0)
    WHERE d.classoid = 'pg_class'::regclass AND d.objoid = %s ORDER BY d.objsubid"""
_FUNCTIONS = """
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = %s::regnamespace ORDER BY proname"""
_STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}


class Table(NamedTuple):
    """A table or view, as in _TABLES."""

    oid: int
    name: str
    kind: str
    partition_key: str | None
    options: list[str] | None
    acl: list[str] | None
    owner: str | None


def render_schema(dsn: str) -> str:
    """The schema of a migrated database as SQL."""
    with psycopg.connect(dsn) as conn:
        conn.execute("SET search_path = ''")
        statements = ["\n".join(f"CREATE ROLE {role} NOLOGIN;" for role in ROLES)]
        for schema, acl in _fetch(conn, _SCHEMA_ACLS, SCHEMAS):
            tables = [Table(*row) for row in _fetch(conn, _TABLES, schema)]
            statements.append(f"\nCREATE SCHEMA {schema};\n" + _render_grants(conn, acl, f"SCHEMA {schema}"))
            statements += [definition for (definition,) in _fetch(conn, _TYPES, schema)]
            statements += ["\n".join(_render_table(conn, table)) for table in tables if table.kind != "v"]
            statements += ["\n".join(_render_view(conn, table)) for table in tables if table.kind == "v"]
            statements += [f"{function.rstrip()};" for (function,) in _fetch(conn, _FUNCTIONS, schema)]
    return "\n\n".join([HEADING.rstrip(), *(statement.rstrip() for statement in statements)]) + "\n"


def _render_table(conn: psycopg.Connection, table: Table) -> Iterator[str]:
    columns = _fetch(conn, _COLUMNS, table.oid)
    lines = [f"    {name} {type_name}{rest}" for name, type_name, rest, _ in columns]
    lines += [f"    {constraint}" for (constraint,) in _fetch(conn, _CONSTRAINTS, table.oid)]
    partition = f" PARTITION BY {table.partition_key}" if table.partition_key else ""
    options = f" WITH ({', '.join(table.options)})" if table.options else ""
    yield f"CREATE TABLE {table.name} (\n" + ",\n".join(lines) + f"\n){partition}{options};"
    for name, _, _, storage in columns:
        if storage:
            yield f"ALTER TABLE {table.name} ALTER COLUMN {name} SET STORAGE {_STORAGE[storage]};"
    for query in (_INDEXES, _TRIGGERS):
        yield from (
            f"{definition.replace(' ON ONLY ', ' ON ')};" for (definition,) in _fetch(conn, query, table.oid)
        )
    if table.owner:
        yield f"ALTER TABLE {table.name} OWNER TO {table.owner};"
    yield _render_grants(conn, table.acl, table.name)


def _render_view(conn: psycopg.Connection, view: Table) -> Iterator[str]:
    ((definition,),) = _fetch(conn, "SELECT pg_get_viewdef(%s, true)", view.oid)
    yield f"CREATE VIEW {view.name} AS\n{definition}"
    for column, comment in _fetch(conn, _COMMENTS, view.oid):
        target = f"COLUMN {view.name}.{column}" if column else f"VIEW {view.name}"
        yield f"COMMENT ON {target} IS {sql.quote(comment)};"
    yield _render_grants(conn, view.acl, view.name)


def _render_grants(conn: psycopg.Connection, acl: list[str] | None, target: str) -> str:
    return "\n".join(
        f"GRANT {privileges} ON {target} TO {role};" for role, privileges in _fetch(conn, _GRANTS, acl or [])
    )


def _fetch(conn: psycopg.Connection, query: str, parameter: object) -> list[Any]:
    return conn.execute(query.encode(), (parameter,)).fetchall()


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # as root the server runs as a service user, who must get there
        with EmbeddedPostgres(Path(directory) / "data", settings={"fsync": "off"}) as server:
            migrate(server.dsn())
            FILE.write_text(render_schema(server.dsn()))
    print(f"{FILE.name} is written.")


if __name__ == "__main__":
    main()

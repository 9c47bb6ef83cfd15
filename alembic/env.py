"""Runs the migrations on the connection that `migrate` in `ledger.postgres.migrations` passes in.

The migrations are hand-written SQL, without models: alembic keeps their order and the version table,
`ledger.alembic_version`.
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema="ledger", transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()

"""Runs the migrations on the connection that `ledger.postgres.migrations.migrate` hands over.

Hand-written SQL, no models: alembic keeps the order and the version table (`ledger.alembic_version`).
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema="ledger", transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()

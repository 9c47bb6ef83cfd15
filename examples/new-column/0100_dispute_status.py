"""Expand: disputes can be filtered by their status. The previous release continues to run without it.

Revision ID: 0100
Revises: 0099
"""

from alembic import op

revision = "0100"
down_revision = "0099"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
-- A list holds a lock while it is read, and later lists queue behind our lock. So we wait only briefly;
-- `ledger migrate` tries again.
SET LOCAL lock_timeout = '2s';

-- Null and without a default, so no row is written: existing generations keep it null.
ALTER TABLE projections.disputes ADD COLUMN status text;

-- ONLY: an index of the parent alone, which takes no time. Later generations get their own index when they
-- are attached. Without ONLY the live generation would be indexed too, and all writes to it would wait, for a
-- column that is null in it.
CREATE INDEX disputes_by_status ON ONLY projections.disputes (account, livemode, status, created, position);
"""

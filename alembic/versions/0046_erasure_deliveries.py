"""The deliveries that an erasure waits for, so that it goes on when they end.

Revision ID: 0046
Revises: 0045
"""

from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The deliveries that were under way with a body from before, by id: until when each was claimed. One that
-- has another lease by now has ended. Earlier builds wait for the last lease: they wrote `sent_until`.
ALTER TABLE ledger.erasures ADD COLUMN sending jsonb NOT NULL DEFAULT '{}';
"""

"""Expand: disputes can be filtered by their status. The release before goes on as if it were not there.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
-- Lists being read hold a lock; those that come meanwhile queue behind ours. So it is not waited for long:
-- `ledger migrate` tries again.
SET LOCAL lock_timeout = '2s';

-- Null and without a default, so no row is written: the generations there are keep it null.
ALTER TABLE projections.disputes ADD COLUMN status text;

-- ONLY: of the parent alone, which takes no time. Generations made from now on get an index of their own as
-- they are attached. Without it the live one would be indexed too, all writes to it waiting, for a
-- column that is null in it.
CREATE INDEX disputes_by_status ON ONLY projections.disputes (account, livemode, status, created, position);
"""

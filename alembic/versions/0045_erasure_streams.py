"""Streams of erasures without a reference to their job, which cost a look-up for each of them.

Revision ID: 0045
Revises: 0044
"""

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- Whoever adds streams has locked the job's row, and no job is ever deleted. Of a large customer it was a
-- fifth of the time in which its streams are found.
ALTER TABLE ledger.erasure_streams DROP CONSTRAINT erasure_streams_job;
"""

"""What is stored beside the log can be sealed for its data subject.

Revision ID: 0041
Revises: 0040
"""

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- Keyed hashes, 16 bytes each, of the members by which lists filter: nobody filters a sealed state in SQL.
-- Null in a row that an older release wrote, or could have to read.
ALTER TABLE projections.resources ADD COLUMN members bytea;

-- What a receiver answered, sealed, in place of `answer`: its own bytes may look like sealed ones.
ALTER TABLE webhooks.attempts ADD COLUMN sealed_answer bytea;
"""

"""A new database may hold compressed documents from its first row on.

Revision ID: 0020
Revises: 0019
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- From the release of this version on, replies, Events and the states in read models are stored compressed,
-- once no release may run that cannot read that: `ledger migrate --contract` says so of a database in use. In
-- a database without events and without processes no older release has anything to read.
UPDATE ledger.served SET oldest = '0020'
WHERE NOT EXISTS (SELECT FROM ledger.events)
AND NOT EXISTS (SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND application_name LIKE 'ledger %' AND application_name <> 'ledger migrate');
"""

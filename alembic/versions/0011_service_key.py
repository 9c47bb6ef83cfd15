"""A check value of the service key: a process that has another key does not start.

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
SET LOCAL lock_timeout = '2s';

-- A keyed hash of a fixed text under LEDGER_SECRET_KEY, which tells nothing about the key. The first process
-- that has the key inserts it (ledger/service_key.py); nothing updates or deletes it.
CREATE TABLE ledger.service_key (
    check_value bytea NOT NULL CONSTRAINT service_key_check_value CHECK (length(check_value) = 32),
    one boolean NOT NULL DEFAULT true CONSTRAINT service_key_one CHECK (one)
        CONSTRAINT service_key_key PRIMARY KEY
);

GRANT SELECT, INSERT ON ledger.service_key TO ledger_api;
"""

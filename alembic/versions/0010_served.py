"""Which releases this schema still serves: a contract migration ends support of those before it.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The schema version of the oldest release that may start on this one. A migration that only adds
-- (expand) leaves it alone, one that removes (contract) raises it: UPDATE ledger.served SET oldest = '…'.
CREATE TABLE ledger.served (
    oldest text NOT NULL,
    one boolean NOT NULL DEFAULT true CONSTRAINT served_one CHECK (one) CONSTRAINT served_key PRIMARY KEY
);
INSERT INTO ledger.served (oldest) VALUES ('0010');

GRANT SELECT ON ledger.served TO ledger_api, ledger_projector;
"""

"""What each witness has cosigned, and how it answered last.

Revision ID: 0018
Revises: 0017
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = r"""
SET LOCAL lock_timeout = '2s';

-- One row for each configured witness that has been asked. `id` is the name and the key id of its first key;
-- `size` that of the last checkpoint it cosigned. All can be asked for again: nothing depends on the rows.
CREATE TABLE ledger.witnesses (
    id text CONSTRAINT witnesses_id PRIMARY KEY,
    size bigint NOT NULL,
    state text NOT NULL
        CONSTRAINT witnesses_state CHECK (state IN ('cosigns', 'unreachable', 'refuses', 'contradicts')),
    reason text,
    changed_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.witnesses TO ledger_api;
"""

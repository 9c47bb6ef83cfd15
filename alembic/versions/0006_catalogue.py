"""The deadlines of objects, and when a key was last used.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The deadline of an object: `moment` follows from the log; the deployment's terms are added when due rows
-- are looked for. Null: nothing is pending.
CREATE TABLE projections.deadlines (
    generation integer NOT NULL,
    id text NOT NULL,
    position bigint NOT NULL,
    kind text NOT NULL,
    moment bigint,
    CONSTRAINT deadlines_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX deadlines_next ON projections.deadlines (kind, moment, id) WHERE moment IS NOT NULL;
ALTER TABLE projections.deadlines OWNER TO ledger_projector;
GRANT SELECT ON projections.deadlines TO ledger_api;

ALTER TABLE ledger.api_keys ADD COLUMN last_used_at timestamptz;
"""

"""Event destinations: which webhook endpoints get thin events.

Revision ID: 0032
Revises: 0031
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- True for a destination of thin events, else null: so the rows of earlier releases are right as they are,
-- and no rebuild is needed. The list of API v1 leaves these destinations out.
ALTER TABLE projections.webhook_endpoints ADD COLUMN thin boolean;

CREATE OR REPLACE VIEW reporting.webhook_endpoints AS SELECT
    w.id,
    w.account,
    w.livemode,
    to_timestamp(w.created) AS created_at,
    w.deleted,
    CASE WHEN w.thin THEN 'thin' ELSE 'snapshot' END AS event_payload
FROM projections.webhook_endpoints w
WHERE w.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'webhook_endpoints');
COMMENT ON COLUMN reporting.webhook_endpoints.id IS 'Id of the endpoint, we_…; ed_… if it gets thin events.';
COMMENT ON COLUMN reporting.webhook_endpoints.event_payload IS 'What it is sent: snapshot or thin events.';
"""

"""Webhook endpoints: their list.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

CREATE TABLE projections.webhook_endpoints (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    deleted boolean NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT webhook_endpoints_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX webhook_endpoints_newest
    ON projections.webhook_endpoints (account, livemode, created, position) WHERE NOT deleted;

ALTER TABLE projections.webhook_endpoints OWNER TO ledger_projector;
GRANT SELECT ON projections.webhook_endpoints TO ledger_api;
"""

"""Refunds: their list.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

CREATE TABLE projections.refunds (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    charge text NOT NULL,
    payment_intent text,
    state bytea NOT NULL,
    CONSTRAINT refunds_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX refunds_newest ON projections.refunds (account, livemode, created, position);
CREATE INDEX refunds_by_charge ON projections.refunds (account, livemode, charge, created, position);
CREATE INDEX refunds_by_payment_intent
    ON projections.refunds (account, livemode, payment_intent, created, position)
    WHERE payment_intent IS NOT NULL;

ALTER TABLE projections.refunds OWNER TO ledger_projector;
GRANT SELECT ON projections.refunds TO ledger_api;
"""

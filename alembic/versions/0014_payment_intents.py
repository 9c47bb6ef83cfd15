"""Payment intents: their list.

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The ledger's own payment intents, and those that other services publish (`published`).
CREATE TABLE projections.payment_intents (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    customer text,
    deleted boolean NOT NULL,
    published boolean NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT payment_intents_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX payment_intents_newest
    ON projections.payment_intents (account, livemode, created, position) WHERE NOT deleted;
CREATE INDEX payment_intents_by_customer
    ON projections.payment_intents (account, livemode, customer, created, position)
    WHERE NOT deleted AND customer IS NOT NULL;

ALTER TABLE projections.payment_intents OWNER TO ledger_projector;
GRANT SELECT ON projections.payment_intents TO ledger_api;
"""

"""Payment methods: who holds a card.

Revision ID: 0015
Revises: 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- A card that a customer has saved has a row under the card's id, a charge on a card one under the charge's.
CREATE TABLE projections.payment_methods (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    card text NOT NULL,
    customer text,
    saved boolean NOT NULL,
    CONSTRAINT payment_methods_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX payment_methods_newest
    ON projections.payment_methods (account, livemode, created, position) WHERE saved;
CREATE INDEX payment_methods_by_card
    ON projections.payment_methods (account, livemode, card, created, position);

ALTER TABLE projections.payment_methods OWNER TO ledger_projector;
GRANT SELECT ON projections.payment_methods TO ledger_api;
"""

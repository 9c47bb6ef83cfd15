"""Published resources: their lists. The balance. Connected accounts by platform.

Revision ID: 0013
Revises: 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- Resources of other services. `created` is the resource's own, or the time of its first publication;
-- customer, subscription and status are members of it.
CREATE TABLE projections.resources (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    type text NOT NULL,
    deleted boolean NOT NULL,
    customer text,
    subscription text,
    status text,
    state bytea NOT NULL,
    CONSTRAINT resources_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX resources_newest ON projections.resources (account, livemode, type, created, position)
    WHERE NOT deleted;
CREATE INDEX resources_by_customer
    ON projections.resources (account, livemode, type, customer, created, position)
    WHERE NOT deleted AND customer IS NOT NULL;
CREATE INDEX resources_by_subscription
    ON projections.resources (account, livemode, type, subscription, created, position)
    WHERE NOT deleted AND subscription IS NOT NULL;

-- What each balance transaction changes in the balance, in minor units, and from when (unix seconds) that can
-- be used. Rows never change, so a sum up to one position stays right: only later rows must be added to it.
CREATE TABLE projections.balance_changes (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    currency text NOT NULL,
    net bigint NOT NULL,
    available_on bigint NOT NULL,
    CONSTRAINT balance_changes_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX balance_changes_in_order ON projections.balance_changes (account, livemode, position)
    INCLUDE (generation, currency, net);
CREATE INDEX balance_changes_pending ON projections.balance_changes (account, livemode, available_on)
    INCLUDE (generation, currency, net);

ALTER TABLE projections.resources OWNER TO ledger_projector;
ALTER TABLE projections.balance_changes OWNER TO ledger_projector;
GRANT SELECT ON projections.resources, projections.balance_changes TO ledger_api;

CREATE INDEX accounts_connected ON ledger.accounts (platform, created_at, id) WHERE platform IS NOT NULL;
"""

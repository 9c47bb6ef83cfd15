"""Projections: their registry and checkpoints, the lists, the public Event feed.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

CREATE SCHEMA projections;
GRANT USAGE ON SCHEMA projections TO ledger_api, ledger_projector;
GRANT CREATE ON SCHEMA projections TO ledger_projector;

-- One row per generation of a projection; the lock on it lets one of any number of runners write.
CREATE TABLE projections.checkpoints (
    projection text NOT NULL,
    generation integer NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT 'epoch',
    CONSTRAINT checkpoints_key PRIMARY KEY (projection, generation)
) WITH (fillfactor = 20);

-- The generation that readers see. A switch is one UPDATE here, and so is a rollback.
CREATE TABLE projections.live (
    projection text CONSTRAINT live_projection PRIMARY KEY,
    generation integer NOT NULL,
    CONSTRAINT live_checkpoint FOREIGN KEY (projection, generation) REFERENCES projections.checkpoints
);

-- Streams whose handler raised: their events from `position` on are not applied until they are retried.
CREATE TABLE projections.parked (
    projection text NOT NULL,
    generation integer NOT NULL,
    stream text NOT NULL,
    position bigint NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT parked_key PRIMARY KEY (projection, generation, stream)
);

-- The lists. `state` is the folded aggregate as JSON: responses are rendered from it, by the function
-- that renders everywhere. `position` is that of the creation: it breaks ties of `created` (unix seconds).
CREATE TABLE projections.customers (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    deleted boolean NOT NULL,
    email text,
    state bytea NOT NULL,
    CONSTRAINT customers_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX customers_newest ON projections.customers (account, livemode, created, position)
    WHERE NOT deleted;
CREATE INDEX customers_by_email ON projections.customers (account, livemode, email, created, position)
    WHERE NOT deleted;

CREATE TABLE projections.charges (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    customer text,
    payment_intent text,
    transfer_group text,
    state bytea NOT NULL,
    CONSTRAINT charges_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX charges_newest ON projections.charges (account, livemode, created, position);
CREATE INDEX charges_by_customer ON projections.charges (account, livemode, customer, created, position)
    WHERE customer IS NOT NULL;
CREATE INDEX charges_by_payment_intent
    ON projections.charges (account, livemode, payment_intent, created, position)
    WHERE payment_intent IS NOT NULL;
CREATE INDEX charges_by_transfer_group
    ON projections.charges (account, livemode, transfer_group, created, position)
    WHERE transfer_group IS NOT NULL;

CREATE TABLE projections.disputes (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    charge text NOT NULL,
    payment_intent text,
    state bytea NOT NULL,
    CONSTRAINT disputes_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX disputes_newest ON projections.disputes (account, livemode, created, position);
CREATE INDEX disputes_by_charge ON projections.disputes (account, livemode, charge, created, position);
CREATE INDEX disputes_by_payment_intent
    ON projections.disputes (account, livemode, payment_intent, created, position)
    WHERE payment_intent IS NOT NULL;

-- The public Event feed: daily partitions of each generation. `created` is recorded_at in whole seconds,
-- which never goes back, so (created, position, ordinal) is position order and partitions are read in turn.
CREATE TABLE projections.feed (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    ordinal smallint NOT NULL,
    type text NOT NULL,
    object_id text NOT NULL,
    api_version text NOT NULL,
    request_id text,
    idempotency_key text,
    data text NOT NULL,
    CONSTRAINT feed_key PRIMARY KEY (generation, id, created)
) PARTITION BY LIST (generation);
CREATE INDEX feed_newest ON projections.feed (account, livemode, created, position, ordinal);
CREATE INDEX feed_by_type ON projections.feed (account, livemode, type, created, position, ordinal);

ALTER TABLE projections.customers OWNER TO ledger_projector;
ALTER TABLE projections.charges OWNER TO ledger_projector;
ALTER TABLE projections.disputes OWNER TO ledger_projector;
ALTER TABLE projections.feed OWNER TO ledger_projector;

GRANT SELECT ON ALL TABLES IN SCHEMA projections TO ledger_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON projections.checkpoints, projections.live, projections.parked
    TO ledger_projector;
"""

"""Deliveries of Events to webhook endpoints, and their attempts. These tables are never rebuilt.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

CREATE SCHEMA webhooks;
GRANT USAGE ON SCHEMA webhooks TO ledger_api;

-- Up to where the feed has been turned into deliveries. Only the process that holds the row's lock continues.
CREATE TABLE webhooks.checkpoint (
    one boolean PRIMARY KEY DEFAULT true CONSTRAINT checkpoint_is_one_row CHECK (one),
    position bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
INSERT INTO webhooks.checkpoint DEFAULT VALUES;

-- Streams that the feed had parked, from `position` on, when the checkpoint moved past them.
CREATE TABLE webhooks.late (
    stream text CONSTRAINT late_stream PRIMARY KEY,
    position bigint NOT NULL
);

-- One Event owed to one endpoint. `account` to `type` are the Event's.
--   pending    is due, or will be again, at `due_at` by the one clock
--   delivered  the endpoint has accepted it
--   failed     the endpoint has not accepted it, and there is no further attempt
--   dropped    the endpoint was deleted before it accepted it
-- The lease is measured by the database's own clock: moving the one clock ends no lease.
-- Ids begin with their time, so in order of bytes the oldest are first.
CREATE TABLE webhooks.deliveries (
    id text COLLATE "C" CONSTRAINT deliveries_key PRIMARY KEY,
    event text NOT NULL,
    endpoint text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    ordinal smallint NOT NULL,
    type text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CONSTRAINT deliveries_state
        CHECK (state IN ('pending', 'delivered', 'failed', 'dropped')),
    tries smallint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT deliveries_once UNIQUE (event, endpoint)
);
CREATE INDEX deliveries_due ON webhooks.deliveries (endpoint, due_at) WHERE state = 'pending';
CREATE INDEX deliveries_owed ON webhooks.deliveries (account, livemode, created, position, ordinal)
    WHERE state IN ('pending', 'failed');

-- The attempts, by `number` (an attempt that was due while the endpoint was disabled was not made, and has no
-- row): either a status and the first bytes of the response, or an error.
CREATE TABLE webhooks.attempts (
    delivery text COLLATE "C" NOT NULL REFERENCES webhooks.deliveries ON DELETE CASCADE,
    number smallint NOT NULL,
    at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    status smallint,
    answer bytea,
    error text,
    CONSTRAINT attempts_key PRIMARY KEY (delivery, number),
    CONSTRAINT attempts_outcome CHECK ((status IS NULL) = (error IS NOT NULL))
);

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA webhooks TO ledger_api;

-- Endpoints that may be owed Events, also deleted ones: their last Events, and what is still owed to them.
CREATE INDEX webhook_endpoints_of_account ON projections.webhook_endpoints (account, livemode);
"""

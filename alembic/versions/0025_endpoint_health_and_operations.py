"""Health of webhook endpoints; what operators do, for the log of the service.

Revision ID: 0025
Revises: 0024
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- One row for each endpoint that has failed in the last 30 days, written by the statement that records the
-- outcome of an attempt. An endpoint fails from its first failed attempt, at `since`, until it accepts one;
-- the row then stays, with `failing` false. `attempts` failed since then, and `given_up` deliveries had their
-- last attempt; `last_attempt_at` is the last one that failed, with the status of its response or its error.
-- These times are by the one clock. `began_at` is `since` by the database's own clock, by which what the log
-- has been told of the failure is remembered: that the endpoint fails, and that a delivery was given up.
CREATE TABLE webhooks.endpoint_health (
    endpoint text COLLATE "C" CONSTRAINT endpoint_health_key PRIMARY KEY,
    account text NOT NULL,
    livemode boolean NOT NULL,
    failing boolean NOT NULL,
    since timestamptz NOT NULL,
    attempts integer NOT NULL,
    given_up integer NOT NULL,
    last_attempt_at timestamptz NOT NULL,
    status smallint,
    error text,
    began_at timestamptz NOT NULL,
    failure_logged_at timestamptz NOT NULL DEFAULT '-infinity',
    given_up_logged_at timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT endpoint_health_outcome CHECK ((status IS NULL) = (error IS NOT NULL))
) WITH (fillfactor = 50);
CREATE INDEX endpoint_health_failing ON webhooks.endpoint_health (since) WHERE failing;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks.endpoint_health TO ledger_api;

-- What was done to accounts and keys: by whom (a key's id, or user@host of a shell), and when. Nothing of it
-- is ever changed or deleted, but `logged`: whether a worker has written a line of it into the log.
CREATE TABLE ledger.operations (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT operations_key PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    who text NOT NULL,
    action text NOT NULL,
    account text NOT NULL,
    key text,
    details jsonb NOT NULL DEFAULT '{}',
    logged boolean NOT NULL DEFAULT false
);
CREATE INDEX operations_of_key ON ledger.operations (key) WHERE key IS NOT NULL;
CREATE INDEX operations_to_log ON ledger.operations (id) WHERE NOT logged;
GRANT SELECT, INSERT ON ledger.operations TO ledger_api;
GRANT SELECT, UPDATE (logged) ON ledger.operations TO ledger_projector;

-- The same of what was done to projections. What is there already counts as logged.
ALTER TABLE projections.operations ADD COLUMN logged boolean NOT NULL DEFAULT true;
ALTER TABLE projections.operations ALTER COLUMN logged SET DEFAULT false;
CREATE INDEX operations_to_log ON projections.operations (id) WHERE NOT logged;
GRANT UPDATE (logged) ON projections.operations TO ledger_projector;
"""

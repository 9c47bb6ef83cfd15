"""Retries: all deliveries that match, made due again by a job.

Revision ID: 0036
Revises: 0035
"""

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- One row for each retry of many deliveries; it is never deleted. Its states are those of a replay. It takes
-- deliveries to `endpoint` (null: to all of the account), of `event` (null: of any), in one of `states`, of
-- `types` (as snapshots have them; null: all), with ids from `first_id` to before `before_id`, and, of its
-- last attempt, with `status` and `error` (null: any). `created_bounds` are the times that the caller gave,
-- `asked_types` the types. What became of those that it made due is counted from the deliveries until it has
-- ended; `returned` got their former state back, because it was cancelled. It worked for `active_seconds`,
-- and since `active_since`, by the database's own clock.
CREATE TABLE webhooks.retries (
    id text COLLATE "C" CONSTRAINT retries_key PRIMARY KEY,
    account text NOT NULL,
    livemode boolean NOT NULL,
    endpoint text,
    event text,
    states text[] NOT NULL,
    asked_types text[] NOT NULL,
    types text[],
    created_bounds jsonb NOT NULL,
    first_id text COLLATE "C" NOT NULL,
    before_id text COLLATE "C" NOT NULL,
    status smallint,
    error text,
    who text NOT NULL,
    reason text NOT NULL,
    created bigint NOT NULL,
    state text NOT NULL DEFAULT 'running' CONSTRAINT retries_state
        CHECK (state IN ('running', 'paused', 'completed', 'cancelled')),
    ended bigint,
    delivered bigint,
    failed bigint,
    dropped bigint,
    returned bigint,
    active_seconds double precision NOT NULL DEFAULT 0,
    active_since timestamptz DEFAULT now(),
    CONSTRAINT retries_end CHECK ((state IN ('completed', 'cancelled')) = (ended IS NOT NULL))
);
CREATE INDEX retries_newest ON webhooks.retries (account, livemode, id);
CREATE INDEX retries_unended ON webhooks.retries (id) WHERE ended IS NULL;

-- The part of a retry that concerns one endpoint: each goes on by itself, so one that is slow or fails does
-- not hold up the others. Its deliveries are taken in the order of their ids, each once: those up to
-- `counted_id` are counted in `matched`, those up to `taken_id` were made due or left out. `in_other_job`: a
-- replay or another retry that has not ended has made them pending; `exhausted`: attempted as often as may
-- be; `unreachable`: the endpoint was disabled or deleted by then (`obstacle`). `waits_for` says why it
-- does not go on, if it does not.
CREATE TABLE webhooks.retry_parts (
    retry text COLLATE "C" NOT NULL CONSTRAINT retry_parts_retry REFERENCES webhooks.retries,
    endpoint text NOT NULL,
    counted_id text COLLATE "C" NOT NULL,
    taken_id text COLLATE "C" NOT NULL,
    matched bigint NOT NULL DEFAULT 0,
    made_due bigint NOT NULL DEFAULT 0,
    in_other_job bigint NOT NULL DEFAULT 0,
    exhausted bigint NOT NULL DEFAULT 0,
    unreachable bigint NOT NULL DEFAULT 0,
    obstacle text,
    waits_for text,
    CONSTRAINT retry_parts_key PRIMARY KEY (retry, endpoint)
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE ON webhooks.retries, webhooks.retry_parts TO ledger_api;

-- Of a delivery that a retry has made pending, which then is its `replay`: the state that it had before. It
-- gets it back if the retry is cancelled.
ALTER TABLE webhooks.deliveries ADD COLUMN retried_from text;

-- Lists of deliveries of some types, newest first: without it a type that is rare is looked for in all rows.
CREATE INDEX deliveries_of_type ON webhooks.deliveries (endpoint, type, state, id);
"""

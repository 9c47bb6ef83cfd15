"""Replays: the Events of a window of the log, sent to one webhook endpoint again, or for the first time.

Revision ID: 0029
Revises: 0028
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- One row for each replay; it is never deleted. Times of the window are unix seconds by the one clock,
-- `window_from` included and `window_to` not; `after` and `upto` are the positions of the log that they mean.
--   running    its Events become deliveries, some at a time
--   paused     no further ones do; those that are pending are sent
--   completed  all were sent or given up
--   cancelled  what was pending of it was given up
-- `types` are the types of Events that it sends; null: all. `counted_position` is how far `total` has been
-- counted, `queued_position` how far the Events have become deliveries: both are at `upto` in the end.
-- Of `total` Events, `queued` have become deliveries, `left_alone` were pending to the endpoint already, and
-- `unreadable` cannot be made. What became of those queued is counted from the deliveries until the replay
-- has ended; then it is `delivered`, `failed` and `dropped`. It worked for `active_seconds`, and since
-- `active_since`, by the database's own clock. `waits_for` says why it does not go on, if it does not.
CREATE TABLE webhooks.replays (
    id text COLLATE "C" CONSTRAINT replays_key PRIMARY KEY,
    endpoint text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    window_from bigint NOT NULL,
    window_to bigint NOT NULL,
    after bigint NOT NULL,
    upto bigint NOT NULL,
    asked_types text[] NOT NULL,
    types text[],
    only_failed boolean NOT NULL,
    object text,
    who text NOT NULL,
    reason text NOT NULL,
    created bigint NOT NULL,
    state text NOT NULL DEFAULT 'running' CONSTRAINT replays_state
        CHECK (state IN ('running', 'paused', 'completed', 'cancelled')),
    ended bigint,
    counted_position bigint NOT NULL,
    queued_position bigint NOT NULL,
    total bigint NOT NULL DEFAULT 0,
    queued bigint NOT NULL DEFAULT 0,
    left_alone bigint NOT NULL DEFAULT 0,
    unreadable bigint NOT NULL DEFAULT 0,
    delivered bigint,
    failed bigint,
    dropped bigint,
    waits_for text,
    active_seconds double precision NOT NULL DEFAULT 0,
    active_since timestamptz DEFAULT now(),
    CONSTRAINT replays_end CHECK ((state IN ('completed', 'cancelled')) = (ended IS NOT NULL))
) WITH (fillfactor = 50);
-- One at a time to an endpoint.
CREATE UNIQUE INDEX replays_one_of_endpoint ON webhooks.replays (endpoint) WHERE ended IS NULL;
CREATE INDEX replays_newest ON webhooks.replays (account, livemode, id);
GRANT SELECT, INSERT, UPDATE ON webhooks.replays TO ledger_api;

-- The replay that made a delivery, or made it pending again last. Of the collation of the replay's id, which
-- the index needs.
ALTER TABLE webhooks.deliveries ADD COLUMN replay text COLLATE "C";
CREATE INDEX deliveries_of_replay ON webhooks.deliveries (replay, state, id) WHERE replay IS NOT NULL;
-- Those of a replay are sent after all others that are due to the endpoint.
CREATE INDEX deliveries_replay_due ON webhooks.deliveries (endpoint, due_at)
    WHERE state = 'pending' AND replay IS NOT NULL;
-- What a replay of the deliveries that were given up goes through.
CREATE INDEX deliveries_given_up ON webhooks.deliveries (endpoint, position, ordinal)
    WHERE state IN ('failed', 'dropped');
"""

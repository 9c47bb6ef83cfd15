"""Alerts: what is wrong with the service, since when, and whom of the operators that was sent to.

Revision ID: 0038
Revises: 0037
"""

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- Beside the log, and not in it: they must also work while nothing can be appended. All times are of the
-- database's own clock, which no test moves.
CREATE SCHEMA alerts;

-- The one process that watches and sends, until when it does so, and when it last finished a look. A lease by
-- time and no lock: a process that is stopped keeps its locks, and would keep everyone from watching.
CREATE TABLE alerts.lease (
    only_one boolean DEFAULT true CONSTRAINT lease_key PRIMARY KEY CONSTRAINT lease_of_one CHECK (only_one),
    holder text NOT NULL DEFAULT '',
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    looked_at timestamptz
) WITH (fillfactor = 10);
INSERT INTO alerts.lease DEFAULT VALUES;

-- `key` says what is wrong with what, as in projection_stalled/feed. The condition `lasts` until it was found
-- ended: that of a cleared alert may last on, and keeps another one from being raised. `absent_since`: since
-- when it was not found any more, before it counts as ended.
CREATE TABLE alerts.alerts (
    id text COLLATE "C" CONSTRAINT alerts_key PRIMARY KEY,
    key text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL CONSTRAINT alerts_severity CHECK (severity IN ('warning', 'critical')),
    summary text NOT NULL,
    cause text NOT NULL,
    details jsonb NOT NULL,
    state text NOT NULL DEFAULT 'active'
        CONSTRAINT alerts_state CHECK (state IN ('active', 'cleared', 'resolved')),
    lasts boolean NOT NULL DEFAULT true,
    raised_at timestamptz NOT NULL DEFAULT now(),
    absent_since timestamptz,
    ended_at timestamptz,
    CONSTRAINT alerts_end CHECK ((state = 'active') = (ended_at IS NULL)),
    CONSTRAINT alerts_active_lasts CHECK (state <> 'active' OR lasts)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX alerts_one_of_key ON alerts.alerts (key) WHERE lasts;
CREATE INDEX alerts_ended ON alerts.alerts (ended_at) WHERE ended_at IS NOT NULL;

-- What happened to an alert, as receivers are told: nothing here is ever changed. `who` and `reason` are of
-- an operator who clears it.
CREATE TABLE alerts.events (
    sequence bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT events_key PRIMARY KEY,
    id text COLLATE "C" NOT NULL CONSTRAINT events_id UNIQUE,
    alert text COLLATE "C" NOT NULL CONSTRAINT events_alert REFERENCES alerts.alerts ON DELETE CASCADE,
    type text NOT NULL
        CONSTRAINT events_type CHECK (type IN ('raised', 'elevated', 'resolved', 'cleared')),
    at timestamptz NOT NULL DEFAULT now(),
    severity text NOT NULL,
    summary text NOT NULL,
    cause text NOT NULL,
    details jsonb NOT NULL,
    who text,
    reason text
);
CREATE INDEX events_of_alert ON alerts.events (alert, sequence);

-- Where operators want to be told. The URL is sealed under the service key, since it often has a token in it;
-- `host` is what is shown of it. One that is removed has no URL any more.
CREATE TABLE alerts.receivers (
    id text COLLATE "C" CONSTRAINT receivers_key PRIMARY KEY,
    host text NOT NULL,
    sealed_url bytea,
    description text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,
    CONSTRAINT receivers_url CHECK ((sealed_url IS NULL) = (removed_at IS NOT NULL))
);

-- One event for one receiver. Those of a receiver are sent one after another, in the order of events.
CREATE TABLE alerts.notices (
    receiver text COLLATE "C" NOT NULL CONSTRAINT notices_receiver REFERENCES alerts.receivers,
    sequence bigint NOT NULL CONSTRAINT notices_event REFERENCES alerts.events ON DELETE CASCADE,
    state text NOT NULL DEFAULT 'pending'
        CONSTRAINT notices_state CHECK (state IN ('pending', 'delivered', 'failed', 'dropped')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    attempted_at timestamptz,
    duration_ms integer,
    status smallint,
    error text,
    CONSTRAINT notices_key PRIMARY KEY (receiver, sequence)
) WITH (fillfactor = 50);
CREATE INDEX notices_pending ON alerts.notices (receiver, sequence) WHERE state = 'pending';
CREATE INDEX notices_of_event ON alerts.notices (sequence);

GRANT USAGE ON SCHEMA alerts TO ledger_api;
GRANT SELECT, UPDATE ON alerts.lease TO ledger_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON alerts.alerts TO ledger_api;
GRANT SELECT, INSERT ON alerts.events TO ledger_api;
GRANT SELECT, INSERT, UPDATE ON alerts.receivers, alerts.notices TO ledger_api;
"""

"""Sessions of the Stripe CLI, and the responses that its users' programs gave.

Revision ID: 0026
Revises: 0025
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

CREATE SCHEMA stripe_cli;
GRANT USAGE ON SCHEMA stripe_cli TO ledger_api;

-- One run of `stripe listen` or `stripe logs tail`. What it is still to get is no row for each Event but a
-- place in the log: it has acknowledged all Events up to `position`, and the messages in `acknowledged` after
-- it. A session ends with the API key that opened it, and when nothing has been connected to it for a while:
-- `seen_at`, by the database's own clock, is when something was.
--   id              public, wsl_…: its deliveries name it as their endpoint
--   websocket_hash  SHA-256 of the secret id by which the CLI connects
--   features        what it is sent: webhooks, v2_events, request_logs
--   filters         of request logs, as the CLI sent them: an array of texts for each name
--   connection      of several connections only the newest, this one, is sent anything
--   missed          Events that it was too slow for, and that it has not been told of
CREATE TABLE stripe_cli.sessions (
    id text COLLATE "C" CONSTRAINT sessions_key PRIMARY KEY,
    websocket_hash bytea NOT NULL CONSTRAINT sessions_websocket UNIQUE,
    account text NOT NULL REFERENCES ledger.accounts,
    livemode boolean NOT NULL,
    key text NOT NULL REFERENCES ledger.api_keys,
    device text NOT NULL,
    features text[] NOT NULL,
    filters jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    connection text,
    position bigint NOT NULL,
    acknowledged text[] NOT NULL DEFAULT '{}',
    missed bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX sessions_of_account ON stripe_cli.sessions (account, livemode);

-- Events to send once more to a session, by POST /v1/events/{id}/retry. `created` is the Event's: its rows in
-- the feed are partitioned by it.
CREATE TABLE stripe_cli.resends (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT resends_key PRIMARY KEY,
    session text COLLATE "C" NOT NULL REFERENCES stripe_cli.sessions ON DELETE CASCADE,
    event text NOT NULL,
    created bigint NOT NULL
);
CREATE INDEX resends_of_session ON stripe_cli.resends (session, id);

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA stripe_cli TO ledger_api;

-- What a listener has forwarded to a program of its user and got a response to: owed to nobody. Every row
-- keeps the rule that it replaces, so nothing has to be checked while the table is locked.
ALTER TABLE webhooks.deliveries
    DROP CONSTRAINT deliveries_state,
    ADD CONSTRAINT deliveries_state
        CHECK (state IN ('pending', 'delivered', 'failed', 'dropped', 'forwarded')) NOT VALID;
"""

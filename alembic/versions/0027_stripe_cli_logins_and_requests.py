"""Logins of the Stripe CLI, and the requests that `stripe logs tail` shows.

Revision ID: 0027
Revises: 0026
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- One run of `stripe login`, for five minutes. The digests are of the secrets with which the program asks and
-- the browser opens the page. `account`: whose keys the program gets, once a person has confirmed it;
-- `redeemed`: that it has got them. What a crash of the server forgets is begun again: so it is not logged.
CREATE UNLOGGED TABLE stripe_cli.logins (
    poll_hash bytea CONSTRAINT logins_key PRIMARY KEY,
    page_hash bytea NOT NULL CONSTRAINT logins_page UNIQUE,
    code text NOT NULL,
    device text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    account text,
    redeemed boolean NOT NULL DEFAULT false,
    CONSTRAINT logins_redeemed_when_confirmed CHECK (account IS NOT NULL OR NOT redeemed)
);

-- Requests that a run of `stripe logs tail` is to be shown: one row for each run, until it acknowledges it or
-- ends. `payload` is the JSON that the CLI gets. Also not logged: it is of use for seconds.
CREATE UNLOGGED TABLE stripe_cli.request_logs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    session text COLLATE "C" NOT NULL REFERENCES stripe_cli.sessions ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now(),
    payload text NOT NULL,
    CONSTRAINT request_logs_key PRIMARY KEY (session, id)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON stripe_cli.logins, stripe_cli.request_logs TO ledger_api;
"""

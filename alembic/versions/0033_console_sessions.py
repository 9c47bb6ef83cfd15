"""Sessions of the console, and the links that open one.

Revision ID: 0033
Revises: 0032
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- Like keys, both are known by a hash only: what reads the database cannot act as an operator. A row is all
-- that makes a session or a link valid, so deleting it ends it.
CREATE TABLE ledger.console_sessions (
    hash bytea NOT NULL,
    key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT console_sessions_key PRIMARY KEY (hash),
    CONSTRAINT console_sessions_of_key FOREIGN KEY (key) REFERENCES ledger.api_keys (id)
);
CREATE INDEX console_sessions_by_expiry ON ledger.console_sessions (expires_at);
COMMENT ON COLUMN ledger.console_sessions.key IS 'The key that the session acts with.';

CREATE TABLE ledger.console_links (
    hash bytea NOT NULL,
    key text NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT console_links_key PRIMARY KEY (hash),
    CONSTRAINT console_links_of_key FOREIGN KEY (key) REFERENCES ledger.api_keys (id)
);
COMMENT ON TABLE ledger.console_links IS 'Links that were not used yet: using one deletes it.';

GRANT SELECT, INSERT, DELETE ON ledger.console_sessions, ledger.console_links TO ledger_api;
"""

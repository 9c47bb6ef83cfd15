"""Lists of redaction jobs and of legal holds.

Revision ID: 0042
Revises: 0041
"""

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

CREATE TABLE projections.redaction_jobs (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    status text NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT redaction_jobs_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX redaction_jobs_newest ON projections.redaction_jobs (account, livemode, created, position);
-- What is to be validated or erased: a few rows, however many jobs have ended.
CREATE INDEX redaction_jobs_active ON projections.redaction_jobs (status, created)
    WHERE status IN ('validating', 'ready', 'redacting');

CREATE TABLE projections.legal_holds (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    object_id text NOT NULL,
    active boolean NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT legal_holds_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX legal_holds_newest ON projections.legal_holds (account, livemode, created, position);

ALTER TABLE projections.redaction_jobs OWNER TO ledger_projector;
ALTER TABLE projections.legal_holds OWNER TO ledger_projector;
GRANT SELECT ON projections.redaction_jobs, projections.legal_holds TO ledger_api;
"""

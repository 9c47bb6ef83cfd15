"""Certificates of erasures, and the exports in the clear that an erasure has to write again.

Revision ID: 0044
Revises: 0043
"""

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- `requested` and `completed`: positions of the job's records. `note`: the signed note. Never changed.
CREATE TABLE ledger.erasure_certificates (
    job text COLLATE "C" CONSTRAINT erasure_certificates_key PRIMARY KEY,
    account text NOT NULL,
    livemode boolean NOT NULL,
    requested bigint NOT NULL,
    completed bigint NOT NULL CONSTRAINT erasure_certificates_completed UNIQUE,
    note text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT erasure_certificates_order CHECK (requested < completed)
);
CREATE INDEX erasure_certificates_page ON ledger.erasure_certificates (account, livemode, completed);
CREATE TRIGGER erasure_certificates_append_only BEFORE UPDATE OR DELETE OR TRUNCATE
    ON ledger.erasure_certificates FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_rewriting();

-- Files with personal data in the clear, which a command of this service wrote. `position`: that of the log
-- which it shows. `path`: absolute; null for standard output, of which nobody knows where it went. `digest`:
-- SHA-256 of the file as it was last written, `first_digest` as it was made. `removed_at`: an operator said
-- that no copy of it is left.
CREATE TABLE ledger.clear_exports (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT clear_exports_key PRIMARY KEY,
    account text NOT NULL,
    livemode boolean NOT NULL,
    position bigint NOT NULL,
    host text NOT NULL,
    path text,
    operator text NOT NULL,
    size_bytes bigint NOT NULL,
    digest bytea NOT NULL,
    first_digest bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    rewritten_at timestamptz,
    removed_at timestamptz
);
CREATE INDEX clear_exports_present ON ledger.clear_exports (account, livemode, id) WHERE removed_at IS NULL;

-- What an erasure did with such a file: how many lines it wrote again, or the obstacle.
CREATE TABLE ledger.export_rewrites (
    export bigint NOT NULL CONSTRAINT export_rewrites_export REFERENCES ledger.clear_exports,
    job text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    lines bigint NOT NULL,
    obstacle text,
    CONSTRAINT export_rewrites_key PRIMARY KEY (export, job)
);
CREATE INDEX export_rewrites_of_job ON ledger.export_rewrites (job);

GRANT SELECT, INSERT, UPDATE ON ledger.export_rewrites TO ledger_api;
GRANT SELECT, INSERT ON ledger.erasure_certificates TO ledger_api;
GRANT SELECT, INSERT ON ledger.clear_exports TO ledger_api;
GRANT UPDATE (size_bytes, digest, rewritten_at, removed_at) ON ledger.clear_exports TO ledger_api;
"""

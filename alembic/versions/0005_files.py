"""Files: their sealed bytes in chunks, and the lists of files and file links.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The bytes of files, sealed, in the order of `number`. They are written before the event that makes the
-- file (file.uploaded): a file that is in the log has its bytes, and bytes without that event are leftovers.
CREATE TABLE ledger.file_chunks (
    file text NOT NULL,
    number integer NOT NULL CONSTRAINT file_chunks_number CHECK (number >= 0),
    sealed bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT file_chunks_key PRIMARY KEY (file, number)
);
ALTER TABLE ledger.file_chunks ALTER COLUMN sealed SET STORAGE EXTERNAL; -- what is sealed does not compress
CREATE INDEX file_chunks_stored_at ON ledger.file_chunks USING brin (stored_at);

-- Leftovers may be deleted; the bytes of a file in the log are never changed or deleted (contract §2.9).
CREATE FUNCTION ledger.refuse_losing_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM ledger.events e WHERE e.originator_id = OLD.file) THEN
        RAISE EXCEPTION 'the bytes of % are kept', OLD.file USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER file_chunks_kept BEFORE DELETE ON ledger.file_chunks
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_losing_files();
CREATE FUNCTION ledger.refuse_changing_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the bytes of files are kept: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER file_chunks_unchanged BEFORE UPDATE OR TRUNCATE ON ledger.file_chunks
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_changing_files();

GRANT SELECT, INSERT, DELETE ON ledger.file_chunks TO ledger_api;

CREATE TABLE projections.files (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    purpose text NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT files_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX files_newest ON projections.files (account, livemode, created, position);
CREATE INDEX files_by_purpose ON projections.files (account, livemode, purpose, created, position);

CREATE TABLE projections.file_links (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    file text NOT NULL,
    expires_at bigint,
    state bytea NOT NULL,
    CONSTRAINT file_links_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX file_links_newest ON projections.file_links (account, livemode, created, position);
CREATE INDEX file_links_by_file ON projections.file_links (account, livemode, file, created, position);

ALTER TABLE projections.files OWNER TO ledger_projector;
ALTER TABLE projections.file_links OWNER TO ledger_projector;
GRANT SELECT ON projections.files, projections.file_links TO ledger_api;
"""

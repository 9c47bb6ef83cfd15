"""Erasures: how far the destruction of a person's data is, and which streams it reaches.

Revision ID: 0043
Revises: 0042
"""

from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- One row for each redaction job that was run; it is never deleted. `subjects`: whose data the job destroys.
-- Any process takes it through its steps: `step` is the one under way, and `cursor` and `cursor_version` the
-- place in it, which are updated in the transaction of the work. `counts` says what was done, by kind.
-- Nothing may still be in a cache, or under way to a receiver, at `caches_until` and `sent_until`. All times
-- are of the database's own clock, which no test moves.
CREATE TABLE ledger.erasures (
    job text COLLATE "C" CONSTRAINT erasures_key PRIMARY KEY,
    account text NOT NULL,
    livemode boolean NOT NULL,
    subjects text[] NOT NULL,
    requested_position bigint NOT NULL,
    step text NOT NULL DEFAULT 'closure' CONSTRAINT erasures_step CHECK (step IN (
        'closure', 'remnants', 'replies', 'keys', 'rows', 'answers', 'files', 'request_logs', 'exports',
        'lease', 'complete', 'certificate', 'ended')),
    cursor text NOT NULL DEFAULT '',
    cursor_version integer NOT NULL DEFAULT 0,
    counts jsonb NOT NULL DEFAULT '{}',
    obstacle text,
    caches_until timestamptz,
    sent_until timestamptz,
    completed_position bigint,
    began_at timestamptz NOT NULL DEFAULT now(),
    moved_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CONSTRAINT erasures_end CHECK ((step = 'ended') = (ended_at IS NOT NULL))
) WITH (fillfactor = 20);
CREATE INDEX erasures_unended ON ledger.erasures (job) WHERE ended_at IS NULL;

-- The streams that an erasure reaches: those of the person, and what hangs on them. In the collation of the
-- log's own column, whose index is not used for any other. `number` is the order in which they were found.
CREATE TABLE ledger.erasure_streams (
    job text COLLATE "C" NOT NULL CONSTRAINT erasure_streams_job REFERENCES ledger.erasures,
    stream text NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    CONSTRAINT erasure_streams_key PRIMARY KEY (job, stream)
);
CREATE INDEX erasure_streams_found ON ledger.erasure_streams (job, number);

-- Few at any time, however many keys there are.
CREATE INDEX data_keys_erasing ON ledger.data_keys (subject)
    WHERE erasing_since IS NOT NULL AND destroyed_at IS NULL;

GRANT UPDATE (body, compressed, secret_of, secret_at) ON ledger.replies TO ledger_api;
GRANT SELECT, INSERT, UPDATE ON ledger.erasures TO ledger_api;
GRANT SELECT, UPDATE ON ledger.erasures TO ledger_projector;
GRANT SELECT ON ledger.activations TO ledger_projector;  -- read by ledger.is_active_database
GRANT SELECT, INSERT ON ledger.erasure_streams TO ledger_api;
GRANT SELECT ON ledger.erasure_streams TO ledger_projector;

-- What a file of an erased person had is deleted; that of any other file is kept.
CREATE OR REPLACE FUNCTION ledger.refuse_losing_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM ledger.events e WHERE e.originator_id = OLD.file)
        AND NOT EXISTS (
            SELECT FROM ledger.data_keys k WHERE k.subject = OLD.file AND k.destroyed_at IS NOT NULL
            AND ledger.key_group(k.subject) = ledger.key_group(OLD.file))
    THEN
        RAISE EXCEPTION 'the bytes of % are kept', OLD.file USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END $$;
"""

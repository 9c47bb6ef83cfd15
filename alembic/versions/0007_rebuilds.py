"""Rebuilds: generations filled beside the live one, their progress, and who switched to which, and why.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The shape of a generation's rows. A release leaves alone what a later one has built.
ALTER TABLE projections.checkpoints ADD COLUMN shape integer NOT NULL DEFAULT 1;

-- One pass over the log, up to `upto`, for new generations of several projections. One that failed is
-- paused, and `error` says why.
CREATE TABLE projections.rebuilds (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT rebuilds_key PRIMARY KEY,
    state text NOT NULL DEFAULT 'filling' CONSTRAINT rebuilds_state CHECK (state IN (
        'filling', 'indexing', 'catching up', 'comparing', 'differing', 'switched', 'cancelled')),
    paused boolean NOT NULL DEFAULT false,
    error text,
    workers integer NOT NULL CONSTRAINT rebuilds_workers CHECK (workers BETWEEN 1 AND 64),
    accept_differences boolean NOT NULL,
    upto bigint NOT NULL,
    events bigint,
    who text NOT NULL,
    reason text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- The generations a rebuild makes.
CREATE TABLE projections.builds (
    rebuild bigint NOT NULL REFERENCES projections.rebuilds,
    projection text NOT NULL,
    generation integer NOT NULL,
    shape integer NOT NULL,
    ended boolean NOT NULL DEFAULT false,
    attached boolean NOT NULL DEFAULT false,
    CONSTRAINT builds_key PRIMARY KEY (projection, generation)
);
-- Of two operators who start a rebuild of the same projection, the second is refused.
CREATE UNIQUE INDEX builds_under_way ON projections.builds (projection) WHERE NOT ended;

-- What each worker of a rebuild has done: all streams of its share up to `stream`, in the same transaction
-- as their rows, so that the successor of a killed worker continues there. `began_…` is when the current
-- worker began: the rate is measured since then.
CREATE TABLE projections.shares (
    rebuild bigint NOT NULL REFERENCES projections.rebuilds,
    share integer NOT NULL,
    stream text NOT NULL DEFAULT '',
    events bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    done boolean NOT NULL DEFAULT false,
    began_at timestamptz NOT NULL DEFAULT now(),
    began_events bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT shares_key PRIMARY KEY (rebuild, share)
) WITH (fillfactor = 20);

-- The result of comparing live rows with a replay. A sample adds to it, a full check replaces it.
CREATE TABLE projections.verified (
    projection text NOT NULL,
    generation integer NOT NULL,
    position bigint NOT NULL,
    rows bigint NOT NULL,
    differing bigint NOT NULL,
    keys text[] NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT verified_key PRIMARY KEY (projection, generation)
) WITH (fillfactor = 50);

-- What operators did to projections: nothing here is ever changed.
CREATE TABLE projections.operations (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT operations_key PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    who text NOT NULL,
    action text NOT NULL,
    projection text NOT NULL,
    generation integer NOT NULL,
    position bigint NOT NULL,
    reason text NOT NULL,
    idempotency_key text,
    details jsonb NOT NULL
);
-- An action that is requested twice under one key is done once.
CREATE UNIQUE INDEX operations_once ON projections.operations (who, idempotency_key, action, projection)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX operations_of_projection ON projections.operations (projection, id);

GRANT SELECT, INSERT, UPDATE, DELETE ON projections.rebuilds, projections.builds, projections.shares,
    projections.verified TO ledger_projector;
GRANT SELECT, INSERT ON projections.operations TO ledger_projector;
GRANT SELECT ON projections.rebuilds, projections.builds, projections.shares, projections.operations,
    projections.verified TO ledger_api;
"""

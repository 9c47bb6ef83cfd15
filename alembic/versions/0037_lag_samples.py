"""The lag of what follows the log, over the last day, and what keeps projections from moving.

Revision ID: 0037
Revises: 0036
"""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- A ring of one day, of what was behind then: each ten seconds have a slot, whose row is overwritten a day
-- later. So nothing has to be deleted, and half-empty pages let the update stay within its page.
CREATE TABLE projections.lag_samples (
    slot smallint NOT NULL,
    at timestamptz NOT NULL,
    names text[] NOT NULL,
    events bigint[] NOT NULL,
    seconds real[] NOT NULL,
    CONSTRAINT lag_samples_key PRIMARY KEY (slot),
    CONSTRAINT lag_samples_slot CHECK (slot BETWEEN 0 AND 8639),
    CONSTRAINT lag_samples_alike CHECK (cardinality(names) = cardinality(events)
                                        AND cardinality(names) = cardinality(seconds))
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE ON projections.lag_samples TO ledger_api;
GRANT SELECT ON projections.lag_samples TO ledger_projector;

-- Why the last batch of a generation could not be written; no row while its batches are. The process that ran
-- it has this in its log, which other processes cannot read.
CREATE TABLE projections.batch_failures (
    projection text NOT NULL,
    generation integer NOT NULL,
    error text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT batch_failures_key PRIMARY KEY (projection, generation),
    CONSTRAINT batch_failures_checkpoint_fkey FOREIGN KEY (projection, generation)
        REFERENCES projections.checkpoints (projection, generation) ON DELETE CASCADE
);
GRANT SELECT ON projections.batch_failures TO ledger_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON projections.batch_failures TO ledger_projector;

-- Sessions in the way of the runners, with the rights of the owner: a role of the service does not see what
-- other sessions do. `lock`: a runner waits for a lock that the session holds. `checkpoint`: the session has
-- locked the checkpoint of a generation, which runners pass over. `standby`: commits wait for a standby.
CREATE FUNCTION projections.obstacles(
    OUT kind text, OUT projection text, OUT generation integer, OUT relation text,
    OUT pid integer, OUT name text, OUT state text, OUT seconds double precision
) RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
SELECT 'lock', NULL::text, NULL::integer, wanted.relation::regclass::text,
       holder.pid, holder.application_name, holder.state,
       extract(epoch FROM clock_timestamp() - holder.xact_start)::float8
FROM pg_stat_activity waiting
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking(pid)
JOIN pg_stat_activity holder ON holder.pid = blocking.pid
LEFT JOIN pg_locks wanted ON wanted.pid = waiting.pid AND NOT wanted.granted
WHERE waiting.datname = current_database() AND waiting.application_name = 'ledger projections'
UNION ALL
SELECT 'checkpoint', c.projection, c.generation, NULL,
       holder.pid, holder.application_name, holder.state,
       extract(epoch FROM clock_timestamp() - holder.xact_start)::float8
FROM projections.checkpoints c
JOIN pg_stat_activity holder ON holder.backend_xid::text = c.xmax::text
WHERE c.xmax::text <> '0' AND holder.application_name <> 'ledger projections'
UNION ALL
SELECT 'standby', NULL, NULL, NULL, NULL, NULL, NULL,
       max(extract(epoch FROM clock_timestamp() - waiting.query_start))::float8
FROM pg_stat_activity waiting
WHERE waiting.datname = current_database() AND waiting.wait_event = 'SyncRep'
HAVING count(*) > 0
$$;
REVOKE ALL ON FUNCTION projections.obstacles FROM PUBLIC;
GRANT EXECUTE ON FUNCTION projections.obstacles TO ledger_api, ledger_projector;
"""

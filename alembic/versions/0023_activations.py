"""Which database acts by itself: a copy of it sends no webhooks.

Revision ID: 0023
Revises: 0022
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- In which database this ledger acts by itself, and whether it sends webhooks: the newest row holds, and is
-- the record of who decided it and why. Rows are never changed. The first start inserts the first one
-- (ledger/service_key.py), operators the others (`ledger webhooks`). A dump has the rows too; where it is
-- restored they name another database, so the copy does nothing by itself until an operator says so.
--   action             first_start, pause, resume, or declare_copy
--   database_oid, table_oid, system_identifier
--                      of the database that acts: its own, that of this table, and its cluster's; NULL
--                      after declare_copy: none acts
--   sends_webhooks     false after pause
--   details            how much was pending, for the record
CREATE TABLE ledger.activations (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT activations_key PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    action text NOT NULL CONSTRAINT activations_action
        CHECK (action IN ('first_start', 'pause', 'resume', 'declare_copy')),
    who text NOT NULL,
    reason text NOT NULL,
    database_oid bigint,
    table_oid bigint,
    system_identifier bigint,
    sends_webhooks boolean NOT NULL,
    details jsonb NOT NULL
);
-- Of several processes that start at once, one inserts it.
CREATE UNIQUE INDEX activations_first_start ON ledger.activations (action) WHERE action = 'first_start';
GRANT SELECT, INSERT ON ledger.activations TO ledger_api;

-- This database as no dump and no copy has it. A restore gives the table another OID, a copy by CREATE
-- DATABASE gets one of its own, and another cluster has another identifier; where that may not be read, the
-- OIDs have to do. A failover to a streaming replica changes none of them.
CREATE FUNCTION ledger.this_database(
    OUT database_oid bigint, OUT table_oid bigint, OUT system_identifier bigint
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT d.oid INTO database_oid FROM pg_database d WHERE d.datname = current_database();
    table_oid := 'ledger.activations'::regclass::oid;
    IF has_function_privilege('pg_control_system()', 'EXECUTE') THEN
        SELECT s.system_identifier INTO system_identifier FROM pg_control_system() s;
    END IF;
END $$;

-- Whether due dates, checkpoints and webhooks are this database's to make. Before the first start, yes.
-- In plpgsql, which keeps the plan of a statement: the sender asks before each claim.
CREATE FUNCTION ledger.is_active_database() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    newest ledger.activations;
    this record;
BEGIN
    SELECT * INTO newest FROM ledger.activations ORDER BY id DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    this := ledger.this_database();
    RETURN newest.database_oid IS NOT DISTINCT FROM this.database_oid
        AND newest.table_oid IS NOT DISTINCT FROM this.table_oid
        AND newest.system_identifier IS NOT DISTINCT FROM this.system_identifier;
END $$;

-- Whether deliveries may be sent.
CREATE FUNCTION ledger.may_send_webhooks() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT a.sends_webhooks FROM ledger.activations a ORDER BY a.id DESC LIMIT 1), true)
        AND ledger.is_active_database();
END $$;
"""

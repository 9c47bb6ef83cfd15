"""Positions of stored replies, and what auditors looked at.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The position of the last event that the reply's command recorded. NULL: it recorded none, or an older
-- release stored the reply.
ALTER TABLE ledger.replies ADD COLUMN position bigint;

-- As in migration 0001, but a reply also has
--   e  how many events the batch has up to and including those of the reply's command; null if it has none
-- From this follows the position of the command's last event. An older release sends no `e`.
CREATE OR REPLACE FUNCTION ledger.append(
    appender uuid, number bigint, at double precision, checks json, events json, replies json,
    OUT base bigint, OUT recorded timestamptz, OUT stale integer[], OUT taken integer[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    answered ledger.appenders;
    refused integer[];
    refused_events integer[] := '{}';
    count bigint := 0;
BEGIN
    SELECT h.position, greatest(h.recorded_at, to_timestamp(at)) INTO base, recorded
        FROM ledger.head h FOR UPDATE;

    SELECT * INTO answered FROM ledger.appenders a WHERE a.id = appender AND a.batch >= number;
    IF answered.batch > number THEN
        -- A sending that was held up while its appender gave it up and went on. Were it taken now, it would
        -- be after it was told to have failed, and would hide the answer of the batch after it.
        RAISE EXCEPTION 'batch % was given up', number USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF FOUND THEN
        base := answered.base;
        recorded := answered.recorded_at;
        stale := answered.stale;
        taken := answered.taken;
        RETURN;
    END IF;

    SELECT coalesce(array_agg(DISTINCT c.c), '{}') INTO stale
        FROM json_to_recordset(checks) AS c(c integer, s text, v integer)
        WHERE c.v <> coalesce((
            SELECT e.originator_version FROM ledger.events e WHERE e.originator_id = c.s
            ORDER BY e.originator_version DESC LIMIT 1), 0);

    taken := '{}';
    IF replies IS NOT NULL THEN
        SELECT coalesce(array_agg(r.c), '{}') INTO taken
            FROM json_to_recordset(replies) AS r(c integer, a text, l boolean, k text)
            WHERE EXISTS (SELECT FROM ledger.replies p
                          WHERE p.account = r.a AND p.livemode = r.l AND p.key = r.k);
        refused := stale || taken;
        IF refused <> '{}' AND events IS NOT NULL THEN
            -- The events of refused commands get no positions: those after them move up.
            SELECT coalesce(array_agg(e.c), '{}') INTO refused_events
                FROM json_to_recordset(events) AS e(c integer) WHERE e.c = ANY (refused);
        END IF;
        INSERT INTO ledger.replies
            (account, livemode, key, fingerprint, status, body, secret_of, secret_at, request_id,
             created_at, position)
        SELECT r.a, r.l, r.k, r.f, r.s, r.d, r.o, r.n, r.r, recorded,
               base + r.e - (SELECT count(*) FROM unnest(refused_events) AS x(c) WHERE x.c < r.c)
            FROM json_to_recordset(replies) AS
                r(c integer, a text, l boolean, k text, f text, s smallint, d text, o text, n integer,
                  r text, e integer)
            WHERE r.c <> ALL (refused);
    ELSE
        refused := stale;
    END IF;

    IF events IS NOT NULL THEN
        INSERT INTO ledger.events
            (notification_id, originator_id, originator_version, topic, state, account, livemode, actor,
             request_id, idempotency_key, causation, customer, charge, payment_intent, recorded_at)
        SELECT base + row_number() OVER (), e.s, e.v, e.t, convert_to(e.d, 'UTF8'), e.a, e.l, e.k,
               e.r, e.i, e.b, e.u, e.h, e.p, recorded
            FROM json_to_recordset(events) AS
                e(c integer, s text, v integer, t text, d text, a text, l boolean, k text, r text, i text,
                  b text, u text, h text, p text)
            WHERE e.c <> ALL (refused);
        GET DIAGNOSTICS count = ROW_COUNT;
    END IF;

    UPDATE ledger.head h SET position = base + count, recorded_at = recorded;
    INSERT INTO ledger.appenders AS a (id, batch, base, stale, taken, recorded_at)
        VALUES (appender, number, base, stale, taken, recorded)
        ON CONFLICT ON CONSTRAINT appenders_id DO UPDATE
        SET batch = number, base = excluded.base, stale = excluded.stale, taken = excluded.taken,
            recorded_at = excluded.recorded_at;
END $$;

-- The message now names the table that the trigger protects.
CREATE OR REPLACE FUNCTION ledger.refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;

-- Who asked the audit API or `ledger audit` for what, also when refused (not `allowed`).
--   account     that the question was about; of a refused one the key's own
--   operator    user@host of a command line; then the actor is `cli`
--   action      the route or the command
--   parameters  as given; personal data and unknown values only as a keyed digest
--   object      the id of the object asked about, if it was one
--   as_of       the log's last position then: with the parameters it determines what was seen
CREATE TABLE ledger.audit_accesses (
    number bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT audit_accesses_number PRIMARY KEY,
    at timestamptz NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    actor text NOT NULL,
    operator text,
    request_id text,
    action text NOT NULL,
    parameters jsonb NOT NULL,
    object text,
    allowed boolean NOT NULL,
    as_of bigint NOT NULL
);
CREATE INDEX audit_accesses_newest ON ledger.audit_accesses (account, livemode, at, number);
CREATE INDEX audit_accesses_by_actor ON ledger.audit_accesses (account, livemode, actor, at, number);
CREATE INDEX audit_accesses_by_object ON ledger.audit_accesses (account, livemode, object, at, number)
    WHERE object IS NOT NULL;
CREATE TRIGGER audit_accesses_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.audit_accesses
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_rewriting();
GRANT INSERT, SELECT ON ledger.audit_accesses TO ledger_api;
"""

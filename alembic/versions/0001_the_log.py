"""The log: head, events, idempotency replies, accounts and keys, and who may do what.

Revision ID: 0001
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- Two roles that nobody logs in as; every connection takes one of them. The API appends and never
-- rewrites; the projector owns the read models (it creates and drops their partitions) and cannot append.
DO $$ BEGIN CREATE ROLE ledger_api NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE ledger_projector NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN
    EXECUTE format('GRANT ledger_api, ledger_projector TO %I', current_user);
EXCEPTION WHEN unique_violation OR invalid_grant_operation THEN NULL; -- two migrations at once, one cluster
END $$;
GRANT USAGE ON SCHEMA ledger TO ledger_api, ledger_projector;

-- One row. Its lock makes commit order equal position order; a rollback leaves no hole in positions.
-- recorded_at never goes back, so position order is time order too and a past moment is one position.
CREATE TABLE ledger.head (
    one boolean PRIMARY KEY DEFAULT true CONSTRAINT head_is_one_row CHECK (one),
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL
) WITH (fillfactor = 20);
INSERT INTO ledger.head (position, recorded_at) VALUES (0, 'epoch');

-- The first five columns are the eventsourcing library's, under its names; notification_id is the position.
CREATE TABLE ledger.events (
    notification_id bigint CONSTRAINT events_position PRIMARY KEY,
    originator_id text NOT NULL,
    originator_version integer NOT NULL CONSTRAINT events_version_positive CHECK (originator_version > 0),
    topic text NOT NULL,
    state bytea NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    actor text,
    request_id text,
    idempotency_key text,
    causation text,
    customer text,
    charge text,
    payment_intent text,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT events_stream_version UNIQUE (originator_id, originator_version)
);
CREATE INDEX events_customer ON ledger.events (customer, notification_id) WHERE customer IS NOT NULL;
CREATE INDEX events_charge ON ledger.events (charge, notification_id) WHERE charge IS NOT NULL;
CREATE INDEX events_payment_intent ON ledger.events (payment_intent, notification_id)
    WHERE payment_intent IS NOT NULL;

CREATE FUNCTION ledger.refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger.events is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.events
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_rewriting();

-- The response to each POST with an Idempotency-Key. A secret is cut out of `body` at `secret_at`: it is
-- derived again from the object `secret_of`.
CREATE TABLE ledger.replies (
    account text NOT NULL,
    livemode boolean NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    status smallint NOT NULL,
    body text NOT NULL,
    secret_of text,
    secret_at integer,
    request_id text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT replies_key PRIMARY KEY (account, livemode, key)
);
CREATE INDEX replies_created_at ON ledger.replies USING brin (created_at);

-- The last batch of every appending process, and its result. A batch that is sent again after a lost
-- connection finds its result here, so it is neither applied twice nor reported as failed.
CREATE TABLE ledger.appenders (
    id uuid CONSTRAINT appenders_id PRIMARY KEY,
    batch bigint NOT NULL,
    base bigint NOT NULL,
    stale integer[] NOT NULL,
    taken integer[] NOT NULL,
    recorded_at timestamptz NOT NULL
) WITH (fillfactor = 20);

-- One batch: many commands, each accepted or refused alone. Accepted events get the next positions in order.
--   checks   {c: command, s: stream, v: version the command relied on}
--   events   {c, s, v, t: topic, d: state, a: account, l: livemode, k: actor, r: request, i: idempotency
--             key, b: causation, u: customer, h: charge, p: payment intent}
--   replies  {c, a, l, k: key, f: fingerprint, s: status, d: body, o: secret_of, n: secret_at, r: request}
-- A function, not statements in a pipeline: each statement in it sees what was committed before the head
-- lock was granted, and a batch costs the client a quarter
-- (docs/decisions/0001-append-as-a-database-function.md).
CREATE FUNCTION ledger.append(
    appender uuid, number bigint, at double precision, checks json, events json, replies json,
    OUT base bigint, OUT recorded timestamptz, OUT stale integer[], OUT taken integer[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    answered ledger.appenders;
    refused integer[];
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
        INSERT INTO ledger.replies
            (account, livemode, key, fingerprint, status, body, secret_of, secret_at, request_id,
             created_at)
        SELECT r.a, r.l, r.k, r.f, r.s, r.d, r.o, r.n, r.r, recorded
            FROM json_to_recordset(replies) AS
                r(c integer, a text, l boolean, k text, f text, s smallint, d text, o text, n integer,
                  r text)
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

-- For analysts: state and metadata as columns to query. Personal data stays sealed.
CREATE VIEW ledger.readable_events AS
SELECT notification_id AS position, originator_id AS stream, originator_version AS version, topic,
       convert_from(state, 'UTF8')::jsonb AS state, account, livemode, actor, request_id,
       idempotency_key, causation, customer, charge, payment_intent, recorded_at
FROM ledger.events;

CREATE TABLE ledger.accounts (
    id text CONSTRAINT accounts_id PRIMARY KEY,
    name text NOT NULL,
    platform text CONSTRAINT accounts_platform REFERENCES ledger.accounts (id),
    api_version text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A key is shown once, then known only by its SHA-256 and its last four characters.
CREATE TABLE ledger.api_keys (
    id text CONSTRAINT api_keys_id PRIMARY KEY,
    account text NOT NULL CONSTRAINT api_keys_account REFERENCES ledger.accounts (id),
    kind text NOT NULL CONSTRAINT api_keys_kind CHECK (kind IN ('sk', 'rk', 'pk')),
    livemode boolean NOT NULL,
    hash bytea NOT NULL CONSTRAINT api_keys_hash UNIQUE,
    last4 text NOT NULL,
    name text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);

-- How far tests have moved the one clock (LEDGER_TEST_CLOCK).
CREATE TABLE ledger.clock (
    one boolean PRIMARY KEY DEFAULT true CONSTRAINT clock_is_one_row CHECK (one),
    ahead_seconds double precision NOT NULL DEFAULT 0
);
INSERT INTO ledger.clock DEFAULT VALUES;

GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO ledger_api, ledger_projector;
GRANT INSERT ON ledger.events, ledger.replies, ledger.appenders, ledger.accounts, ledger.api_keys
    TO ledger_api;
GRANT UPDATE ON ledger.head, ledger.appenders, ledger.clock, ledger.api_keys TO ledger_api;
GRANT DELETE ON ledger.replies, ledger.appenders TO ledger_api;
"""

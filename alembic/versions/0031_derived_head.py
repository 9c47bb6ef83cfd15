"""The head is derived from the log: appends lock a row and do not update it.

Revision ID: 0031
Revises: 0030
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


# Each UPDATE leaves a version of the row behind, and none of them goes while a transaction is open that began
# before it: a dump, an analyst's query. To find the newest version, all have to be passed. So nothing that
# happens once in each append updates the same row over and over
# (docs/decisions/0106-head-derived-from-the-log.md).
UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- In the order in which appends lock them.
LOCK TABLE ledger.head, ledger.appenders IN ACCESS EXCLUSIVE MODE;
DO $$
DECLARE
    head bigint := (SELECT h.position FROM ledger.head h);
    last bigint := coalesce((SELECT max(e.notification_id) FROM ledger.events e), 0);
BEGIN
    IF head <> last THEN
        RAISE EXCEPTION 'the log ends at position %, but ledger.head is at %: the log is damaged', last, head;
    END IF;
END $$;

-- One row, which every append locks until it commits, and nothing changes. A lock leaves no version behind.
-- It makes commit order equal position order; a rollback leaves no hole in positions.
CREATE TABLE ledger.head_lock (
    one boolean CONSTRAINT head_lock_key PRIMARY KEY DEFAULT true CONSTRAINT head_lock_is_one_row CHECK (one)
);
INSERT INTO ledger.head_lock DEFAULT VALUES;
GRANT SELECT ON ledger.head_lock TO ledger_api, ledger_projector;
GRANT UPDATE ON ledger.head_lock TO ledger_api;  -- without it nobody may lock the row

-- The last position of the log and when it was recorded. Who locks its row locks that of ledger.head_lock.
ALTER TABLE ledger.head RENAME TO head_before;
CREATE VIEW ledger.head AS
SELECT coalesce((SELECT e.notification_id FROM ledger.events e ORDER BY e.notification_id DESC LIMIT 1), 0)
           AS position,
       coalesce((SELECT e.recorded_at FROM ledger.events e ORDER BY e.notification_id DESC LIMIT 1), 'epoch')
           AS recorded_at
FROM ledger.head_lock;
GRANT SELECT ON ledger.head TO ledger_api, ledger_projector;
GRANT UPDATE ON ledger.head TO ledger_api;

-- Calls under way during this migration, and ledger.append_batch, update the head to take positions.
-- They get those that follow once they have the lock, whatever the head was when they began.
CREATE FUNCTION ledger.lock_instead_of_update() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    locked boolean;
    last record;
BEGIN
    SELECT true INTO STRICT locked FROM ledger.head_lock FOR UPDATE;
    SELECT h.position, h.recorded_at INTO last FROM ledger.head h;
    NEW.position := last.position + NEW.position - OLD.position;
    NEW.recorded_at := greatest(NEW.recorded_at, last.recorded_at);
    RETURN NEW;
END $$;
CREATE TRIGGER head_not_updated INSTEAD OF UPDATE ON ledger.head
    FOR EACH ROW EXECUTE FUNCTION ledger.lock_instead_of_update();

CREATE OR REPLACE VIEW reporting.freshness AS
SELECT c.projection, c.position, c.recorded_at, h.position - c.position AS events_behind,
       extract(epoch FROM greatest(h.recorded_at - c.recorded_at, interval '0'))::float8 AS seconds_behind,
       (SELECT count(*) FROM projections.parked p
        WHERE p.projection = c.projection AND p.generation = c.generation) AS parked_streams
FROM ledger.head h CROSS JOIN (
    SELECT 'log' AS projection, 0 AS generation, i.position, i.recorded_at FROM ledger.head i
    UNION ALL
    SELECT k.projection, k.generation, k.position, k.recorded_at
    FROM projections.live l
    JOIN projections.checkpoints k ON k.projection = l.projection AND k.generation = l.generation
    WHERE l.projection IN ('customers', 'charges', 'refunds', 'disputes', 'payment_intents', 'postings',
                           'balance_transactions', 'feed', 'resources', 'webhook_endpoints')
) c;
DROP TABLE ledger.head_before;

-- An appender's row is replaced by a new one every hundred batches, so no more than a hundred versions of a
-- row are ever passed. Only one is left at any time. The functions of earlier releases update it for good.
ALTER TABLE ledger.appenders ADD COLUMN hundred bigint NOT NULL DEFAULT 0;
ALTER TABLE ledger.appenders DROP CONSTRAINT appenders_id;
ALTER TABLE ledger.appenders ADD CONSTRAINT appenders_id PRIMARY KEY (id, hundred);

-- What keeps Postgres from removing old versions of rows of this database: since when, and for how many
-- transactions, 0 if nothing does. Runs with the rights of its owner: the API must not see what sessions of
-- others do, only how old they are. Those that the owner may not see either (pg_read_all_stats) are left out.
CREATE FUNCTION ledger.oldest_snapshots(
    OUT holder text, OUT seconds double precision, OUT transactions bigint
) RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
SELECT 'session', coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0),
       coalesce(max(greatest(age(backend_xmin), age(backend_xid))), 0)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
UNION ALL
SELECT 'prepared transaction', coalesce(extract(epoch FROM max(clock_timestamp() - prepared)), 0),
       coalesce(max(age(transaction)), 0)
FROM pg_prepared_xacts WHERE database = current_database()
UNION ALL
SELECT 'standby', NULL, coalesce(max(age(backend_xmin)), 0)
FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname IS NULL
UNION ALL
SELECT 'replication slot', NULL, coalesce(max(age(xmin)), 0) FROM pg_replication_slots
$$;
REVOKE ALL ON FUNCTION ledger.oldest_snapshots FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.oldest_snapshots TO ledger_api, ledger_projector;

-- In each function a statement after the lock reads the head: its snapshot is of then. A batch that is sent
-- again commits a write too, the lock itself: so its answer waits for a synchronous standby as the first did.

-- For releases before 0019, as in migration 0017.
CREATE OR REPLACE FUNCTION ledger.append(
    appender uuid, number bigint, at double precision, checks json, events json, replies json,
    OUT base bigint, OUT recorded timestamptz, OUT stale integer[], OUT taken integer[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    locked boolean;
    answered ledger.appenders;
    refused integer[];
    refused_events integer[] := '{}';
BEGIN
    SELECT true INTO STRICT locked FROM ledger.head_lock FOR UPDATE;
    SELECT h.position, greatest(h.recorded_at, to_timestamp(at)) INTO base, recorded FROM ledger.head h;

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
    END IF;

    INSERT INTO ledger.appenders AS a (id, batch, base, stale, taken, recorded_at)
        VALUES (appender, number, base, stale, taken, recorded)
        ON CONFLICT ON CONSTRAINT appenders_id DO UPDATE
        SET batch = number, base = excluded.base, stale = excluded.stale, taken = excluded.taken,
            recorded_at = excluded.recorded_at;
END $$;

-- The first row of the appender for the hundred batches with this one, in place of the row before it; false
-- if the appender has a row of this batch or a later one: that one answers or refuses this batch.
CREATE FUNCTION ledger.start_hundred(appender uuid, number bigint, base bigint, recorded timestamptz)
RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    newest ledger.appenders;
BEGIN
    SELECT * INTO newest FROM ledger.appenders a WHERE a.id = appender ORDER BY a.hundred DESC LIMIT 1;
    IF newest.batch >= number THEN
        RETURN false;
    END IF;
    INSERT INTO ledger.appenders (id, hundred, batch, base, stale, taken, recorded_at)
        VALUES (appender, number / 100, number, base, '{}', '{}', recorded);
    DELETE FROM ledger.appenders a WHERE a.id = appender AND a.hundred = newest.hundred;
    RETURN true;
END $$;

-- As in migration 0021, but for the head and for the appender's row.
CREATE OR REPLACE FUNCTION ledger.append_any(
    appender uuid, number bigint, at double precision,
    check_command integer[], check_stream text[], check_version integer[],
    event_command integer[], event_stream text[], event_version integer[], event_topic text[],
    event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[],
    event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[],
    event_charge text[], event_payment_intent text[],
    reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[],
    reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[],
    reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[],
    OUT base bigint, OUT stale integer[], OUT taken integer[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    locked boolean;
    event_count integer := coalesce(cardinality(event_command), 0);
    recorded timestamptz;
    answered ledger.appenders;
    refused integer[] := '{}';
    refused_places integer[];  -- in the batch, 1, 2, 3 …; those after them move up
BEGIN
    SELECT true INTO STRICT locked FROM ledger.head_lock FOR UPDATE;
    SELECT h.position, greatest(h.recorded_at, to_timestamp(at)) INTO base, recorded FROM ledger.head h;

    UPDATE ledger.appenders a
        SET batch = number, base = base, stale = '{}', taken = '{}', recorded_at = recorded
        WHERE a.id = appender AND a.hundred = number / 100 AND a.batch < number;
    IF NOT FOUND AND NOT ledger.start_hundred(appender, number, base, recorded) THEN
        SELECT * INTO answered FROM ledger.appenders a WHERE a.id = appender ORDER BY a.hundred DESC LIMIT 1;
        IF answered.batch > number THEN
            -- A sending that was held up while its appender gave it up and went on. Were it taken now, it
            -- would be after it was told to have failed, and would hide the answer of the batch after it.
            RAISE EXCEPTION 'batch % was given up', number
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        base := answered.base;
        stale := nullif(answered.stale, '{}');
        taken := nullif(answered.taken, '{}');
        RETURN;
    END IF;

    IF check_command IS NOT NULL OR reply_command IS NOT NULL THEN
        SELECT (SELECT array_agg(c.command)
                FROM (SELECT unnest(check_command) AS command, unnest(check_stream) AS stream,
                             unnest(check_version) AS version) AS c
                WHERE c.version <> coalesce((
                    SELECT e.originator_version FROM ledger.events e WHERE e.originator_id = c.stream
                    ORDER BY e.originator_version DESC LIMIT 1), 0)),
               (SELECT array_agg(r.command)
                FROM (SELECT unnest(reply_command) AS command, unnest(reply_account) AS account,
                             unnest(reply_livemode) AS livemode, unnest(reply_key) AS key) AS r
                WHERE (SELECT true FROM ledger.replies p
                       WHERE p.account = r.account AND p.livemode = r.livemode AND p.key = r.key))
            INTO stale, taken;
    END IF;
    IF stale IS NOT NULL OR taken IS NOT NULL THEN
        refused := coalesce(stale, '{}') || coalesce(taken, '{}');
        SELECT array_agg(e.place) INTO refused_places
            FROM unnest(event_command) WITH ORDINALITY AS e(command, place) WHERE e.command = ANY (refused);
        UPDATE ledger.appenders a SET stale = coalesce(stale, '{}'), taken = coalesce(taken, '{}')
            WHERE a.id = appender AND a.hundred = number / 100;
    END IF;

    IF reply_command IS NOT NULL THEN
        INSERT INTO ledger.replies
            (account, livemode, key, fingerprint, status, body, compressed, secret_of, secret_at,
             request_id, created_at, position)
        SELECT r.account, r.livemode, r.key, r.fingerprint, r.status, r.body, r.compressed, r.secret_of,
               r.secret_at, r.request_id, recorded,
               base + r.place - CASE WHEN refused_places IS NULL THEN 0 ELSE
                   (SELECT count(*) FROM unnest(refused_places) AS refused(place)
                    WHERE refused.place <= r.place) END
            FROM (SELECT unnest(reply_command) AS command, unnest(reply_account) AS account,
                         unnest(reply_livemode) AS livemode, unnest(reply_key) AS key,
                         unnest(reply_fingerprint) AS fingerprint, unnest(reply_status) AS status,
                         unnest(reply_body) AS body, unnest(reply_compressed) AS compressed,
                         unnest(reply_secret_of) AS secret_of, unnest(reply_secret_at) AS secret_at,
                         unnest(reply_request_id) AS request_id, unnest(reply_place) AS place) AS r
            WHERE r.command <> ALL (refused);
    END IF;

    IF event_command IS NOT NULL THEN
        INSERT INTO ledger.events
            (notification_id, originator_id, originator_version, topic, state, account, livemode, actor,
             request_id, idempotency_key, causation, customer, charge, payment_intent, recorded_at)
        SELECT base + e.place - CASE WHEN refused_places IS NULL THEN 0 ELSE
                   (SELECT count(*) FROM unnest(refused_places) AS refused(place)
                    WHERE refused.place < e.place) END,
               e.stream, e.version, e.topic, e.state, e.account, e.livemode, e.actor, e.request_id,
               e.idempotency_key, e.causation, e.customer, e.charge, e.payment_intent, recorded
            FROM (SELECT generate_series(1, event_count) AS place, unnest(event_command) AS command,
                         unnest(event_stream) AS stream, unnest(event_version) AS version,
                         unnest(event_topic) AS topic, unnest(event_state) AS state,
                         unnest(event_account) AS account, unnest(event_livemode) AS livemode,
                         unnest(event_actor) AS actor, unnest(event_request_id) AS request_id,
                         unnest(event_idempotency_key) AS idempotency_key,
                         unnest(event_causation) AS causation, unnest(event_customer) AS customer,
                         unnest(event_charge) AS charge,
                         unnest(event_payment_intent) AS payment_intent) AS e
            WHERE e.command <> ALL (refused);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ledger.append_many(
    appender uuid, number bigint, at double precision,
    check_command integer[], check_stream text[], check_version integer[],
    event_command integer[], event_stream text[], event_version integer[], event_topic text[],
    event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[],
    event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[],
    event_charge text[], event_payment_intent text[],
    reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[],
    reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[],
    reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[],
    OUT base bigint, OUT stale integer[], OUT taken integer[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    locked boolean;
    event_count integer := coalesce(cardinality(event_command), 0);
    recorded timestamptz;
    accepted boolean;
BEGIN
    SELECT true INTO STRICT locked FROM ledger.head_lock FOR UPDATE;

    SELECT last.notification_id, greatest(last.recorded_at, to_timestamp(at)), NOT EXISTS (
        SELECT FROM (SELECT unnest(check_stream) AS stream, unnest(check_version) AS version) AS c
        WHERE c.version <> coalesce((
            SELECT e.originator_version FROM ledger.events e WHERE e.originator_id = c.stream
            ORDER BY e.originator_version DESC LIMIT 1), 0)
    ) AND NOT EXISTS (
        SELECT FROM (SELECT unnest(reply_account) AS account, unnest(reply_livemode) AS livemode,
                            unnest(reply_key) AS key) AS r
        WHERE (SELECT true FROM ledger.replies p
               WHERE p.account = r.account AND p.livemode = r.livemode AND p.key = r.key)
    ) INTO base, recorded, accepted
    FROM ledger.events last ORDER BY last.notification_id DESC LIMIT 1;
    IF accepted THEN
        UPDATE ledger.appenders a
            SET batch = number, base = base, stale = '{}', taken = '{}', recorded_at = recorded
            WHERE a.id = appender AND a.hundred = number / 100 AND a.batch < number;
        accepted := FOUND;
        IF NOT accepted THEN
            accepted := ledger.start_hundred(appender, number, base, recorded);
        END IF;
    END IF;
    IF accepted IS NOT TRUE THEN  -- NULL: the log is empty
        SELECT a.base, a.stale, a.taken INTO base, stale, taken FROM ledger.append_any(
            appender, number, at, check_command, check_stream, check_version,
            event_command, event_stream, event_version, event_topic, event_state, event_account,
            event_livemode, event_actor, event_request_id, event_idempotency_key, event_causation,
            event_customer, event_charge, event_payment_intent,
            reply_command, reply_account, reply_livemode, reply_key, reply_fingerprint, reply_status,
            reply_body, reply_compressed, reply_secret_of, reply_secret_at, reply_request_id,
            reply_place) AS a;
        RETURN;
    END IF;

    IF reply_command IS NOT NULL THEN
        INSERT INTO ledger.replies
            (account, livemode, key, fingerprint, status, body, compressed, secret_of, secret_at,
             request_id, created_at, position)
        SELECT unnest(reply_account), unnest(reply_livemode), unnest(reply_key), unnest(reply_fingerprint),
               unnest(reply_status), unnest(reply_body), unnest(reply_compressed), unnest(reply_secret_of),
               unnest(reply_secret_at), unnest(reply_request_id), recorded, base + unnest(reply_place);
    END IF;

    IF event_command IS NOT NULL THEN
        INSERT INTO ledger.events
            (notification_id, originator_id, originator_version, topic, state, account, livemode, actor,
             request_id, idempotency_key, causation, customer, charge, payment_intent, recorded_at)
        SELECT base + generate_series(1, event_count), unnest(event_stream), unnest(event_version),
               unnest(event_topic), unnest(event_state), unnest(event_account), unnest(event_livemode),
               unnest(event_actor), unnest(event_request_id), unnest(event_idempotency_key),
               unnest(event_causation), unnest(event_customer), unnest(event_charge),
               unnest(event_payment_intent), recorded;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ledger.append_one(
    appender uuid, number bigint, at double precision,
    check_stream text, check_version integer,
    event_stream text, event_version integer, event_topic text, event_state bytea, event_account text,
    event_livemode boolean, event_actor text, event_request_id text, event_idempotency_key text,
    event_causation text, event_customer text, event_charge text, event_payment_intent text,
    reply_account text, reply_livemode boolean, reply_key text, reply_fingerprint text, reply_status smallint,
    reply_body text, reply_compressed bytea, reply_secret_of text, reply_secret_at integer,
    reply_request_id text,
    OUT base bigint, OUT stale integer[], OUT taken integer[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    locked boolean;
    recorded timestamptz;
    accepted boolean;
BEGIN
    SELECT true INTO STRICT locked FROM ledger.head_lock FOR UPDATE;

    SELECT last.notification_id, greatest(last.recorded_at, to_timestamp(at)), NOT EXISTS (
        SELECT FROM ledger.replies p
        WHERE p.account = reply_account AND p.livemode = reply_livemode AND p.key = reply_key
    ) AND check_version IS NOT DISTINCT FROM (
        CASE WHEN check_stream IS NOT NULL THEN coalesce((
            SELECT e.originator_version FROM ledger.events e WHERE e.originator_id = check_stream
            ORDER BY e.originator_version DESC LIMIT 1), 0) END
    ) INTO base, recorded, accepted
    FROM ledger.events last ORDER BY last.notification_id DESC LIMIT 1;
    IF accepted THEN
        UPDATE ledger.appenders a
            SET batch = number, base = base, stale = '{}', taken = '{}', recorded_at = recorded
            WHERE a.id = appender AND a.hundred = number / 100 AND a.batch < number;
        accepted := FOUND;
        IF NOT accepted THEN
            accepted := ledger.start_hundred(appender, number, base, recorded);
        END IF;
    END IF;
    IF accepted IS NOT TRUE THEN  -- NULL: the log is empty
        SELECT a.base, a.stale, a.taken INTO base, stale, taken FROM ledger.append_any(
            appender, number, at,
            CASE WHEN check_stream IS NOT NULL THEN ARRAY[0] END, ARRAY[check_stream], ARRAY[check_version],
            ARRAY[0], ARRAY[event_stream], ARRAY[event_version], ARRAY[event_topic], ARRAY[event_state],
            ARRAY[event_account], ARRAY[event_livemode], ARRAY[event_actor],
            ARRAY[event_request_id], ARRAY[event_idempotency_key], ARRAY[event_causation],
            ARRAY[event_customer], ARRAY[event_charge], ARRAY[event_payment_intent],
            CASE WHEN reply_fingerprint IS NOT NULL THEN ARRAY[0] END, ARRAY[reply_account],
            ARRAY[reply_livemode], ARRAY[reply_key], ARRAY[reply_fingerprint], ARRAY[reply_status],
            ARRAY[reply_body], ARRAY[reply_compressed], ARRAY[reply_secret_of], ARRAY[reply_secret_at],
            ARRAY[reply_request_id], ARRAY[1]) AS a;
        RETURN;
    END IF;

    IF reply_fingerprint IS NOT NULL THEN
        INSERT INTO ledger.replies
            (account, livemode, key, fingerprint, status, body, compressed, secret_of, secret_at,
             request_id, created_at, position)
        VALUES (reply_account, reply_livemode, reply_key, reply_fingerprint, reply_status, reply_body,
                reply_compressed, reply_secret_of, reply_secret_at, reply_request_id, recorded, base + 1);
    END IF;
    INSERT INTO ledger.events
        (notification_id, originator_id, originator_version, topic, state, account, livemode, actor,
         request_id, idempotency_key, causation, customer, charge, payment_intent, recorded_at)
    VALUES (base + 1, event_stream, event_version, event_topic, event_state, event_account, event_livemode,
            event_actor, event_request_id, event_idempotency_key, event_causation, event_customer,
            event_charge, event_payment_intent, recorded);
END $$;
"""

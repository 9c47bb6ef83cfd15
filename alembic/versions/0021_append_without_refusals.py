"""Append a batch without refusals by shorter functions, and store replies as bytes.

Revision ID: 0021
Revises: 0020
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))
    op.get_bind().exec_driver_sql(END_SUPPORT_OF_EMPTY.replace("%", "%%"))


# As in migration 0020: in a database without events and processes no older release has anything to read.
END_SUPPORT_OF_EMPTY = """
UPDATE ledger.served SET oldest = '0021'
WHERE NOT EXISTS (SELECT FROM ledger.events)
AND NOT EXISTS (SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND application_name LIKE 'ledger %' AND application_name <> 'ledger migrate');
"""

UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- A reply has its body in one of the two columns: in `compressed` once no release may run that does not read
-- that.
ALTER TABLE ledger.replies ADD COLUMN compressed bytea;
ALTER TABLE ledger.replies ALTER COLUMN body DROP NOT NULL;

-- Releases since this one call append_one or append_many; releases before it call ledger.append_batch. The
-- two append a batch that is sent for the first time and has no command to refuse, as nearly every batch is.
-- Any other they leave to append_any (docs/decisions/0087-append-without-refusals.md).

-- What ledger.append_batch does, with a column more. Migration 0019 explains arguments and result.
CREATE FUNCTION ledger.append_any(
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
    event_count integer := coalesce(cardinality(event_command), 0);
    recorded timestamptz;
    answered ledger.appenders;
    refused integer[] := '{}';
    refused_places integer[];  -- in the batch, 1, 2, 3 …; those after them move up
BEGIN
    -- As if nothing were refused: then this is the only change of the row.
    UPDATE ledger.head h
        SET position = h.position + event_count, recorded_at = greatest(h.recorded_at, to_timestamp(at))
        RETURNING h.position - event_count, h.recorded_at INTO base, recorded;

    UPDATE ledger.appenders a
        SET batch = number, base = base, stale = '{}', taken = '{}', recorded_at = recorded
        WHERE a.id = appender AND a.batch < number;
    IF NOT FOUND THEN
        SELECT * INTO answered FROM ledger.appenders a WHERE a.id = appender;
        IF answered.batch > number THEN
            -- A sending that was held up while its appender gave it up and went on. Were it taken now, it
            -- would be after it was told to have failed, and would hide the answer of the batch after it.
            RAISE EXCEPTION 'batch % was given up', number
                USING ERRCODE = 'object_not_in_prerequisite_state';
        ELSIF FOUND THEN
            UPDATE ledger.head h SET position = base;
            base := answered.base;
            stale := nullif(answered.stale, '{}');
            taken := nullif(answered.taken, '{}');
            RETURN;
        END IF;
        INSERT INTO ledger.appenders (id, batch, base, stale, taken, recorded_at)
            VALUES (appender, number, base, '{}', '{}', recorded);
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
        UPDATE ledger.head h SET position = base + event_count - coalesce(cardinality(refused_places), 0);
        UPDATE ledger.appenders a SET stale = coalesce(stale, '{}'), taken = coalesce(taken, '{}')
            WHERE a.id = appender;
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

-- A batch of any size, with nothing to refuse.
CREATE FUNCTION ledger.append_many(
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
    event_count integer := coalesce(cardinality(event_command), 0);
    recorded timestamptz;
    accepted boolean;
BEGIN
    UPDATE ledger.head h
        SET position = h.position + event_count, recorded_at = greatest(h.recorded_at, to_timestamp(at))
        RETURNING h.position - event_count, h.recorded_at INTO base, recorded;

    accepted := NOT EXISTS (
        SELECT FROM (SELECT unnest(check_stream) AS stream, unnest(check_version) AS version) AS c
        WHERE c.version <> coalesce((
            SELECT e.originator_version FROM ledger.events e WHERE e.originator_id = c.stream
            ORDER BY e.originator_version DESC LIMIT 1), 0)
    ) AND NOT EXISTS (
        SELECT FROM (SELECT unnest(reply_account) AS account, unnest(reply_livemode) AS livemode,
                            unnest(reply_key) AS key) AS r
        WHERE (SELECT true FROM ledger.replies p
               WHERE p.account = r.account AND p.livemode = r.livemode AND p.key = r.key)
    );
    IF accepted THEN
        UPDATE ledger.appenders a
            SET batch = number, base = base, stale = '{}', taken = '{}', recorded_at = recorded
            WHERE a.id = appender AND a.batch < number;
        accepted := FOUND;
    END IF;
    IF NOT accepted THEN
        UPDATE ledger.head h SET position = base;
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

-- A batch of one command with one event, with nothing to refuse: at most one check and one reply.
-- Scalars instead of arrays, and INSERT … VALUES: 119 µs a call with its commit, append_many takes 137 µs.
CREATE FUNCTION ledger.append_one(
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
    recorded timestamptz;
    accepted boolean;
BEGIN
    UPDATE ledger.head h
        SET position = h.position + 1, recorded_at = greatest(h.recorded_at, to_timestamp(at))
        RETURNING h.position - 1, h.recorded_at INTO base, recorded;

    accepted := NOT EXISTS (
        SELECT FROM ledger.replies p
        WHERE p.account = reply_account AND p.livemode = reply_livemode AND p.key = reply_key
    ) AND check_version IS NOT DISTINCT FROM (
        CASE WHEN check_stream IS NOT NULL THEN coalesce((
            SELECT e.originator_version FROM ledger.events e WHERE e.originator_id = check_stream
            ORDER BY e.originator_version DESC LIMIT 1), 0) END
    );
    IF accepted THEN
        UPDATE ledger.appenders a
            SET batch = number, base = base, stale = '{}', taken = '{}', recorded_at = recorded
            WHERE a.id = appender AND a.batch < number;
        accepted := FOUND;
    END IF;
    IF NOT accepted THEN
        UPDATE ledger.head h SET position = base;
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

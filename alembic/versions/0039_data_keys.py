"""A random key for each data subject, and appends that compare the erasure epoch.

Revision ID: 0039
Revises: 0038
"""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))
    op.get_bind().exec_driver_sql(FUNCTIONS.replace("%", "%%"))
    op.get_bind().exec_driver_sql(FUNCTIONS_OF_EARLIER_RELEASES.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- Which keys are in one partition: those of subjects that were created in the same 40 seconds, as our ids
-- say (ledger/ids.py); for any other id, only its own. So a batch of new keys, and a projection that follows
-- it, use one partition, not one for each key. A number: comparing texts depends on a collation. All that it
-- calls is immutable, so the planner puts its body in its place: called as a function it takes seven times as
-- long.
CREATE FUNCTION ledger.key_group(subject text) RETURNS bigint IMMUTABLE PARALLEL SAFE
RETURN hashtextextended(
    CASE WHEN starts_with(right(subject, 23), '_') THEN left(subject, -16) ELSE subject END COLLATE "C", 0);

-- The key of each data subject, wrapped by the service key `wrapped_by`. Outside of the log: a row is what an
-- erasure destroys (docs/decisions/0131-a-key-for-each-data-subject.md). A row with `erasing_since` opens and
-- seals nothing any more; without `wrapped` its key is gone. In partitions, each of which can be written anew
-- in a moment: a row that is only deleted stays in its page. Who looks for a subject names its group too, or
-- all partitions are searched.
CREATE TABLE ledger.data_keys (
    subject text COLLATE "C" NOT NULL,
    wrapped bytea,
    wrapped_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    erasing_since timestamptz,
    destroyed_at timestamptz,
    CONSTRAINT data_keys_wrap CHECK ((wrapped IS NULL) = (wrapped_by IS NULL)),
    CONSTRAINT data_keys_erased CHECK (wrapped IS NOT NULL OR erasing_since IS NOT NULL),
    CONSTRAINT data_keys_destroyed CHECK (destroyed_at IS NULL OR wrapped IS NULL)
) PARTITION BY HASH (ledger.key_group(subject));
-- Nothing of a row is in another file.
ALTER TABLE ledger.data_keys ALTER subject SET STORAGE PLAIN, ALTER wrapped SET STORAGE PLAIN,
    ALTER wrapped_by SET STORAGE PLAIN;
DO $$
BEGIN
    FOR part IN 0 .. 63 LOOP
        EXECUTE format('CREATE TABLE ledger.data_keys_%s PARTITION OF ledger.data_keys
                        FOR VALUES WITH (MODULUS 64, REMAINDER %s)', part, part);
        EXECUTE format('ALTER TABLE ledger.data_keys_%s ADD PRIMARY KEY (subject)', part);
        EXECUTE format('GRANT SELECT, INSERT, TRUNCATE ON ledger.data_keys_%s TO ledger_api', part);
    END LOOP;
END $$;

-- The keys of streams in which an earlier release has sealed events: derived from the service key then, and
-- kept here under the key of the stream's subject, with which they are destroyed.
CREATE TABLE ledger.stream_keys (
    stream text COLLATE "C" CONSTRAINT stream_keys_stream PRIMARY KEY,
    subject text COLLATE "C" NOT NULL,
    wrapped bytea
);
CREATE INDEX stream_keys_by_subject ON ledger.stream_keys (subject);

-- How far the keys of such streams are in that table. Once it has finished no key is derived any more.
CREATE TABLE ledger.key_migration (
    position bigint NOT NULL DEFAULT 0,
    streams bigint NOT NULL DEFAULT 0,
    finished_at timestamptz,
    one boolean NOT NULL DEFAULT true CONSTRAINT key_migration_is_one_row CHECK (one)
        CONSTRAINT key_migration_key PRIMARY KEY
);

-- 0 while events are still sealed in the form that earlier releases read; then 1, and one more with each
-- erasure. Changed under the lock of ledger.head_lock only, so an append that compares it is exact.
CREATE TABLE ledger.erasure_epoch (
    epoch bigint NOT NULL,
    one boolean NOT NULL DEFAULT true CONSTRAINT erasure_epoch_is_one_row CHECK (one)
        CONSTRAINT erasure_epoch_key PRIMARY KEY
);

-- What stays of the personal fields of an erased event, as JSON: what the contract needs, and placeholders.
CREATE TABLE ledger.remnants (
    stream text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    kept bytea NOT NULL,
    CONSTRAINT remnants_event PRIMARY KEY (stream, version)
);

-- As in migration 0020: in a database without events and processes no older release has anything to read.
UPDATE ledger.served SET oldest = '0039'
WHERE NOT EXISTS (SELECT FROM ledger.events)
AND NOT EXISTS (SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND application_name LIKE 'ledger %' AND application_name <> 'ledger migrate');
INSERT INTO ledger.erasure_epoch (epoch)
    SELECT CASE WHEN oldest >= '0039' THEN 1 ELSE 0 END FROM ledger.served;
INSERT INTO ledger.key_migration (finished_at)
    SELECT CASE WHEN oldest >= '0039' THEN now() END FROM ledger.served;

GRANT SELECT ON ledger.data_keys, ledger.stream_keys, ledger.key_migration, ledger.erasure_epoch,
    ledger.remnants TO ledger_api, ledger_projector;
GRANT INSERT, UPDATE, DELETE ON ledger.data_keys, ledger.stream_keys, ledger.remnants TO ledger_api;
GRANT UPDATE ON ledger.key_migration, ledger.erasure_epoch TO ledger_api;
"""


FUNCTIONS = """
-- From its commit on nothing is sealed or opened under the keys of these subjects. Returns the epoch, which
-- this raises under the head lock: appends that have not seen it are refused.
CREATE FUNCTION ledger.begin_erasing(subjects text[]) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    locked boolean;
    raised bigint;
BEGIN
    SELECT true INTO STRICT locked FROM ledger.head_lock FOR UPDATE;
    INSERT INTO ledger.data_keys AS d (subject, erasing_since)
        SELECT DISTINCT unnest(subjects), now()
        ON CONFLICT DO NOTHING;
    UPDATE ledger.data_keys d SET erasing_since = now() FROM unnest(subjects) AS s (subject)
        WHERE d.subject = s.subject AND ledger.key_group(d.subject) = ledger.key_group(s.subject)
        AND d.erasing_since IS NULL;
    UPDATE ledger.erasure_epoch r SET epoch = r.epoch + 1 RETURNING r.epoch INTO raised;
    PERFORM pg_notify('ledger_erasures', raised::text);
    RETURN raised;
END $$;

-- As in migration 0031, with the keys of subjects that the batch's events are sealed under. A process that
-- has not seen the last erasure may have used what it forgets when it does: `erasures_seen` says what it has
-- seen, and a batch that has not seen all is refused as a whole, with the epoch in `erasures`. A batch whose
-- new key exists already is refused by a constraint; sent again, to append_any, each such command is stale. A
-- key without `wrapped` is the erasure of its subject, and raises the epoch.
CREATE FUNCTION ledger.append_any(
    appender uuid, number bigint, at double precision, erasures_seen bigint,
    check_command integer[], check_stream text[], check_version integer[],
    event_command integer[], event_stream text[], event_version integer[], event_topic text[],
    event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[],
    event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[],
    event_charge text[], event_payment_intent text[],
    reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[],
    reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[],
    reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[],
    key_command integer[], key_subject text[], key_wrapped bytea[], key_wrapped_by text[],
    OUT base bigint, OUT stale integer[], OUT taken integer[], OUT erasures bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    locked boolean;
    event_count integer := coalesce(cardinality(event_command), 0);
    recorded timestamptz;
    answered ledger.appenders;
    refused integer[] := '{}';
    epoch bigint;
    erased text[];
    refused_places integer[];  -- in the batch, 1, 2, 3 …; those after them move up
BEGIN
    SELECT true INTO STRICT locked FROM ledger.head_lock FOR UPDATE;
    SELECT h.position, greatest(h.recorded_at, to_timestamp(at)) INTO base, recorded FROM ledger.head h;
    SELECT r.epoch INTO STRICT epoch FROM ledger.erasure_epoch r;
    erasures := CASE WHEN erasures_seen < epoch THEN epoch END;

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

    IF erasures IS NOT NULL THEN
        -- Decided, sealed or rendered with what may be erased now: all of it is decided again.
        SELECT array_agg(DISTINCT c.command) INTO stale
            FROM unnest(check_command || event_command || reply_command || key_command) AS c(command);
    ELSIF check_command IS NOT NULL OR reply_command IS NOT NULL OR key_command IS NOT NULL THEN
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
        -- What is sealed under a new key for a subject that has one could not be opened.
        SELECT nullif(coalesce(stale, '{}') || coalesce(array_agg(k.command), '{}'), '{}') INTO stale
            FROM (SELECT unnest(key_command) AS command, unnest(key_subject) AS subject,
                         unnest(key_wrapped) AS wrapped) AS k
            WHERE k.wrapped IS NOT NULL
            AND EXISTS (SELECT FROM ledger.data_keys d WHERE d.subject = k.subject
                        AND ledger.key_group(d.subject) = ledger.key_group(k.subject));
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

    IF key_command IS NOT NULL THEN
        INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by, created_at)
        SELECT DISTINCT k.subject, k.wrapped, k.wrapped_by, recorded
            FROM (SELECT unnest(key_command) AS command, unnest(key_subject) AS subject,
                         unnest(key_wrapped) AS wrapped, unnest(key_wrapped_by) AS wrapped_by) AS k
            WHERE k.wrapped IS NOT NULL AND k.command <> ALL (refused);
        SELECT array_agg(k.subject) INTO erased
            FROM (SELECT unnest(key_command) AS command, unnest(key_subject) AS subject,
                         unnest(key_wrapped) AS wrapped) AS k
            WHERE k.wrapped IS NULL AND k.command <> ALL (refused);
        IF erased IS NOT NULL THEN
            erasures := ledger.begin_erasing(erased);
        END IF;
    END IF;
END $$;

CREATE FUNCTION ledger.append_many(
    appender uuid, number bigint, at double precision, erasures_seen bigint,
    check_command integer[], check_stream text[], check_version integer[],
    event_command integer[], event_stream text[], event_version integer[], event_topic text[],
    event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[],
    event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[],
    event_charge text[], event_payment_intent text[],
    reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[],
    reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[],
    reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[],
    key_command integer[], key_subject text[], key_wrapped bytea[], key_wrapped_by text[],
    OUT base bigint, OUT stale integer[], OUT taken integer[], OUT erasures bigint
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
    ) AND erasures_seen >= (SELECT r.epoch FROM ledger.erasure_epoch r)
    AND (key_command IS NULL OR key_wrapped IS NOT NULL AND array_position(key_wrapped, NULL) IS NULL)
    INTO base, recorded, accepted
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
        SELECT a.base, a.stale, a.taken, a.erasures INTO base, stale, taken, erasures FROM ledger.append_any(
            appender, number, at, erasures_seen, check_command, check_stream, check_version,
            event_command, event_stream, event_version, event_topic, event_state, event_account,
            event_livemode, event_actor, event_request_id, event_idempotency_key, event_causation,
            event_customer, event_charge, event_payment_intent,
            reply_command, reply_account, reply_livemode, reply_key, reply_fingerprint, reply_status,
            reply_body, reply_compressed, reply_secret_of, reply_secret_at, reply_request_id,
            reply_place, key_command, key_subject, key_wrapped, key_wrapped_by) AS a;
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

    IF key_command IS NOT NULL THEN  -- a subject that has one is refused by a constraint
        INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by, created_at)
        SELECT DISTINCT k.subject, k.wrapped, k.wrapped_by, recorded
            FROM (SELECT unnest(key_subject) AS subject, unnest(key_wrapped) AS wrapped,
                         unnest(key_wrapped_by) AS wrapped_by) AS k;
    END IF;
END $$;

CREATE FUNCTION ledger.append_one(
    appender uuid, number bigint, at double precision, erasures_seen bigint,
    check_stream text, check_version integer,
    event_stream text, event_version integer, event_topic text, event_state bytea, event_account text,
    event_livemode boolean, event_actor text, event_request_id text, event_idempotency_key text,
    event_causation text, event_customer text, event_charge text, event_payment_intent text,
    reply_account text, reply_livemode boolean, reply_key text, reply_fingerprint text, reply_status smallint,
    reply_body text, reply_compressed bytea, reply_secret_of text, reply_secret_at integer,
    reply_request_id text,
    key_subject text, key_wrapped bytea, key_wrapped_by text,
    OUT base bigint, OUT stale integer[], OUT taken integer[], OUT erasures bigint
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
    ) AND erasures_seen >= (SELECT r.epoch FROM ledger.erasure_epoch r)
    INTO base, recorded, accepted
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
        SELECT a.base, a.stale, a.taken, a.erasures INTO base, stale, taken, erasures FROM ledger.append_any(
            appender, number, at, erasures_seen,
            CASE WHEN check_stream IS NOT NULL THEN ARRAY[0] END, ARRAY[check_stream], ARRAY[check_version],
            ARRAY[0], ARRAY[event_stream], ARRAY[event_version], ARRAY[event_topic], ARRAY[event_state],
            ARRAY[event_account], ARRAY[event_livemode], ARRAY[event_actor],
            ARRAY[event_request_id], ARRAY[event_idempotency_key], ARRAY[event_causation],
            ARRAY[event_customer], ARRAY[event_charge], ARRAY[event_payment_intent],
            CASE WHEN reply_fingerprint IS NOT NULL THEN ARRAY[0] END, ARRAY[reply_account],
            ARRAY[reply_livemode], ARRAY[reply_key], ARRAY[reply_fingerprint], ARRAY[reply_status],
            ARRAY[reply_body], ARRAY[reply_compressed], ARRAY[reply_secret_of], ARRAY[reply_secret_at],
            ARRAY[reply_request_id], ARRAY[1],
            CASE WHEN key_subject IS NOT NULL THEN ARRAY[0] END, ARRAY[key_subject], ARRAY[key_wrapped],
            ARRAY[key_wrapped_by]) AS a;
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
    IF key_subject IS NOT NULL THEN
        INSERT INTO ledger.data_keys (subject, wrapped, wrapped_by, created_at)
        VALUES (key_subject, key_wrapped, key_wrapped_by, recorded);
    END IF;
END $$;
"""

# The previous release appends events in the old form until no process of it may run any more.
FUNCTIONS_OF_EARLIER_RELEASES = """
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
    erasures bigint;
BEGIN
    SELECT a.base, a.stale, a.taken, a.erasures INTO base, stale, taken, erasures FROM ledger.append_any(
        appender, number, at, 0::bigint, check_command, check_stream, check_version, event_command,
        event_stream, event_version, event_topic, event_state, event_account, event_livemode, event_actor,
        event_request_id, event_idempotency_key, event_causation, event_customer, event_charge,
        event_payment_intent, reply_command, reply_account, reply_livemode, reply_key, reply_fingerprint,
        reply_status, reply_body, reply_compressed, reply_secret_of, reply_secret_at, reply_request_id,
        reply_place, NULL, NULL, NULL, NULL) AS a;
    IF erasures IS NOT NULL THEN
        RAISE EXCEPTION 'releases before 0039 cannot append any more: end this process'
            USING ERRCODE = 'object_not_in_prerequisite_state';
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
    erasures bigint;
BEGIN
    SELECT a.base, a.stale, a.taken, a.erasures INTO base, stale, taken, erasures FROM ledger.append_many(
        appender, number, at, 0::bigint, check_command, check_stream, check_version, event_command,
        event_stream, event_version, event_topic, event_state, event_account, event_livemode, event_actor,
        event_request_id, event_idempotency_key, event_causation, event_customer, event_charge,
        event_payment_intent, reply_command, reply_account, reply_livemode, reply_key, reply_fingerprint,
        reply_status, reply_body, reply_compressed, reply_secret_of, reply_secret_at, reply_request_id,
        reply_place, NULL, NULL, NULL, NULL) AS a;
    IF erasures IS NOT NULL THEN
        RAISE EXCEPTION 'releases before 0039 cannot append any more: end this process'
            USING ERRCODE = 'object_not_in_prerequisite_state';
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
    erasures bigint;
BEGIN
    SELECT a.base, a.stale, a.taken, a.erasures INTO base, stale, taken, erasures FROM ledger.append_one(
        appender, number, at, 0::bigint, check_stream, check_version, event_stream, event_version,
        event_topic, event_state, event_account, event_livemode, event_actor, event_request_id,
        event_idempotency_key, event_causation, event_customer, event_charge, event_payment_intent,
        reply_account, reply_livemode, reply_key, reply_fingerprint, reply_status, reply_body,
        reply_compressed, reply_secret_of, reply_secret_at, reply_request_id, NULL, NULL, NULL) AS a;
    IF erasures IS NOT NULL THEN
        RAISE EXCEPTION 'releases before 0039 cannot append any more: end this process'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
END $$;
"""

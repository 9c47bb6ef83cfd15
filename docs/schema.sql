-- The database schema that the migrations in alembic/versions make: to read in one file, not to run.
-- `make schema` writes this file. A projection's table is partitioned by generation: the service makes and
-- drops the partitions while it runs.

CREATE ROLE ledger_api NOLOGIN;
CREATE ROLE ledger_projector NOLOGIN;


CREATE SCHEMA ledger;
GRANT USAGE ON SCHEMA ledger TO ledger_api;
GRANT USAGE ON SCHEMA ledger TO ledger_projector;

CREATE TABLE ledger.accounts (
    id text NOT NULL,
    name text NOT NULL,
    platform text,
    api_version text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT accounts_id PRIMARY KEY (id),
    CONSTRAINT accounts_platform FOREIGN KEY (platform) REFERENCES ledger.accounts(id)
);
CREATE INDEX accounts_connected ON ledger.accounts USING btree (platform, created_at, id) WHERE (platform IS NOT NULL);
GRANT INSERT, SELECT ON ledger.accounts TO ledger_api;
GRANT SELECT ON ledger.accounts TO ledger_projector;

CREATE TABLE ledger.alembic_version (
    version_num character varying(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
GRANT SELECT ON ledger.alembic_version TO ledger_api;
GRANT SELECT ON ledger.alembic_version TO ledger_projector;

CREATE TABLE ledger.api_keys (
    id text NOT NULL,
    account text NOT NULL,
    kind text NOT NULL,
    livemode boolean NOT NULL,
    hash bytea NOT NULL,
    last4 text NOT NULL,
    name text NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT api_keys_id PRIMARY KEY (id),
    CONSTRAINT api_keys_hash UNIQUE (hash),
    CONSTRAINT api_keys_account FOREIGN KEY (account) REFERENCES ledger.accounts(id),
    CONSTRAINT api_keys_kind CHECK (kind = ANY (ARRAY['sk'::text, 'rk'::text, 'pk'::text]))
);
GRANT INSERT, SELECT, UPDATE ON ledger.api_keys TO ledger_api;
GRANT SELECT ON ledger.api_keys TO ledger_projector;

CREATE TABLE ledger.appenders (
    id uuid NOT NULL,
    batch bigint NOT NULL,
    base bigint NOT NULL,
    stale integer[] NOT NULL,
    taken integer[] NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT appenders_id PRIMARY KEY (id)
) WITH (fillfactor=20);
GRANT DELETE, INSERT, SELECT, UPDATE ON ledger.appenders TO ledger_api;
GRANT SELECT ON ledger.appenders TO ledger_projector;

CREATE TABLE ledger.audit_accesses (
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at timestamp with time zone NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    actor text NOT NULL,
    operator text,
    request_id text,
    action text NOT NULL,
    parameters jsonb NOT NULL,
    object text,
    allowed boolean NOT NULL,
    as_of bigint NOT NULL,
    CONSTRAINT audit_accesses_number PRIMARY KEY (number)
);
CREATE INDEX audit_accesses_by_actor ON ledger.audit_accesses USING btree (account, livemode, actor, at, number);
CREATE INDEX audit_accesses_by_object ON ledger.audit_accesses USING btree (account, livemode, object, at, number) WHERE (object IS NOT NULL);
CREATE INDEX audit_accesses_newest ON ledger.audit_accesses USING btree (account, livemode, at, number);
CREATE TRIGGER audit_accesses_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.audit_accesses FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_rewriting();
GRANT INSERT, SELECT ON ledger.audit_accesses TO ledger_api;

CREATE TABLE ledger.checkpoints (
    size bigint NOT NULL,
    note text NOT NULL,
    cosignatures smallint NOT NULL DEFAULT 0,
    made_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT checkpoints_size PRIMARY KEY (size)
);
CREATE INDEX checkpoints_cosigned ON ledger.checkpoints USING btree (size) WHERE (cosignatures > 0);
GRANT INSERT, SELECT, UPDATE ON ledger.checkpoints TO ledger_api;

CREATE TABLE ledger.clock (
    one boolean NOT NULL DEFAULT true,
    ahead_seconds double precision NOT NULL DEFAULT 0,
    CONSTRAINT clock_pkey PRIMARY KEY (one),
    CONSTRAINT clock_is_one_row CHECK (one)
);
GRANT SELECT, UPDATE ON ledger.clock TO ledger_api;
GRANT SELECT ON ledger.clock TO ledger_projector;

CREATE TABLE ledger.events (
    notification_id bigint NOT NULL,
    originator_id text NOT NULL,
    originator_version integer NOT NULL,
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
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT events_position PRIMARY KEY (notification_id),
    CONSTRAINT events_stream_version UNIQUE (originator_id, originator_version),
    CONSTRAINT events_version_positive CHECK (originator_version > 0)
);
CREATE INDEX events_charge ON ledger.events USING btree (charge, notification_id) WHERE (charge IS NOT NULL);
CREATE INDEX events_customer ON ledger.events USING btree (customer, notification_id) WHERE (customer IS NOT NULL);
CREATE INDEX events_movement ON ledger.events USING btree (ledger.movement_id(state)) WHERE (POSITION(('\x226d6f76656d656e74223a7b'::bytea) IN (state)) > 0);
CREATE INDEX events_payment_intent ON ledger.events USING btree (payment_intent, notification_id) WHERE (payment_intent IS NOT NULL);
CREATE TRIGGER events_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.events FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_rewriting();
GRANT INSERT, SELECT ON ledger.events TO ledger_api;
GRANT SELECT ON ledger.events TO ledger_projector;

CREATE TABLE ledger.file_chunks (
    file text NOT NULL,
    number integer NOT NULL,
    sealed bytea NOT NULL,
    stored_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT file_chunks_key PRIMARY KEY (file, number),
    CONSTRAINT file_chunks_number CHECK (number >= 0)
);
ALTER TABLE ledger.file_chunks ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX file_chunks_stored_at ON ledger.file_chunks USING brin (stored_at);
CREATE TRIGGER file_chunks_kept BEFORE DELETE ON ledger.file_chunks FOR EACH ROW EXECUTE FUNCTION ledger.refuse_losing_files();
CREATE TRIGGER file_chunks_unchanged BEFORE UPDATE OR TRUNCATE ON ledger.file_chunks FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_changing_files();
GRANT DELETE, INSERT, SELECT ON ledger.file_chunks TO ledger_api;

CREATE TABLE ledger.head (
    one boolean NOT NULL DEFAULT true,
    "position" bigint NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT head_pkey PRIMARY KEY (one),
    CONSTRAINT head_is_one_row CHECK (one)
) WITH (fillfactor=20);
GRANT SELECT, UPDATE ON ledger.head TO ledger_api;
GRANT SELECT ON ledger.head TO ledger_projector;

CREATE TABLE ledger.operations (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at timestamp with time zone NOT NULL DEFAULT now(),
    who text NOT NULL,
    action text NOT NULL,
    account text NOT NULL,
    key text,
    details jsonb NOT NULL DEFAULT '{}'::jsonb,
    logged boolean NOT NULL DEFAULT false,
    CONSTRAINT operations_key PRIMARY KEY (id)
);
CREATE INDEX operations_of_key ON ledger.operations USING btree (key) WHERE (key IS NOT NULL);
CREATE INDEX operations_to_log ON ledger.operations USING btree (id) WHERE (NOT logged);
GRANT INSERT, SELECT ON ledger.operations TO ledger_api;
GRANT SELECT ON ledger.operations TO ledger_projector;

CREATE TABLE ledger.replies (
    account text NOT NULL,
    livemode boolean NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    status smallint NOT NULL,
    body text,
    secret_of text,
    secret_at integer,
    request_id text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    "position" bigint,
    compressed bytea,
    CONSTRAINT replies_key PRIMARY KEY (account, livemode, key)
);
CREATE INDEX replies_created_at ON ledger.replies USING brin (created_at);
GRANT DELETE, INSERT, SELECT ON ledger.replies TO ledger_api;
GRANT SELECT ON ledger.replies TO ledger_projector;

CREATE TABLE ledger.served (
    oldest text NOT NULL,
    one boolean NOT NULL DEFAULT true,
    CONSTRAINT served_key PRIMARY KEY (one),
    CONSTRAINT served_one CHECK (one)
);
GRANT SELECT ON ledger.served TO ledger_api;
GRANT SELECT ON ledger.served TO ledger_projector;

CREATE TABLE ledger.service_key (
    check_value bytea NOT NULL,
    one boolean NOT NULL DEFAULT true,
    CONSTRAINT service_key_key PRIMARY KEY (one),
    CONSTRAINT service_key_check_value CHECK (length(check_value) = 32),
    CONSTRAINT service_key_one CHECK (one)
);
GRANT INSERT, SELECT ON ledger.service_key TO ledger_api;

CREATE TABLE ledger.signing_keys (
    id text NOT NULL,
    origin text NOT NULL,
    algorithm text NOT NULL,
    public_key bytea NOT NULL,
    sealed_private_key bytea NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    retired_at timestamp with time zone,
    retired_reason text NOT NULL DEFAULT ''::text,
    CONSTRAINT signing_keys_id PRIMARY KEY (id),
    CONSTRAINT signing_keys_algorithm CHECK (algorithm = ANY (ARRAY['ed25519'::text, 'ml-dsa-44'::text]))
);
CREATE UNIQUE INDEX signing_keys_current ON ledger.signing_keys USING btree (algorithm) WHERE (retired_at IS NULL);
GRANT INSERT, SELECT, UPDATE ON ledger.signing_keys TO ledger_api;

CREATE TABLE ledger.tree_head (
    one boolean NOT NULL DEFAULT true,
    size bigint NOT NULL,
    root bytea NOT NULL,
    note text NOT NULL,
    sealed_at timestamp with time zone NOT NULL,
    error text,
    CONSTRAINT tree_head_pkey PRIMARY KEY (one),
    CONSTRAINT tree_head_is_one_row CHECK (one),
    CONSTRAINT tree_head_root CHECK (length(root) = 32)
) WITH (fillfactor=20);
CREATE TRIGGER tree_head_grows BEFORE DELETE OR UPDATE ON ledger.tree_head FOR EACH ROW EXECUTE FUNCTION ledger.refuse_tree_change();
CREATE TRIGGER tree_head_stays BEFORE TRUNCATE ON ledger.tree_head FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_tree_change();
GRANT SELECT, UPDATE ON ledger.tree_head TO ledger_api;

CREATE TABLE ledger.tree_tiles (
    level smallint NOT NULL,
    number bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT tree_tiles_key PRIMARY KEY (level, number),
    CONSTRAINT tree_tiles_whole_hashes CHECK (length(hashes) >= 32 AND length(hashes) <= 8192 AND (length(hashes) % 32) = 0)
);
ALTER TABLE ledger.tree_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE TRIGGER tree_tiles_grow BEFORE DELETE OR UPDATE ON ledger.tree_tiles FOR EACH ROW EXECUTE FUNCTION ledger.refuse_tree_change();
CREATE TRIGGER tree_tiles_stay BEFORE TRUNCATE ON ledger.tree_tiles FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_tree_change();
GRANT INSERT, SELECT, UPDATE ON ledger.tree_tiles TO ledger_api;

CREATE TABLE ledger.witnesses (
    id text NOT NULL,
    size bigint NOT NULL,
    state text NOT NULL,
    reason text,
    changed_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT witnesses_id PRIMARY KEY (id),
    CONSTRAINT witnesses_state CHECK (state = ANY (ARRAY['cosigns'::text, 'unreachable'::text, 'refuses'::text, 'contradicts'::text]))
);
GRANT DELETE, INSERT, SELECT, UPDATE ON ledger.witnesses TO ledger_api;

CREATE VIEW ledger.readable_events AS
 SELECT notification_id AS "position",
    originator_id AS stream,
    originator_version AS version,
    topic,
    convert_from(state, 'UTF8'::name)::jsonb AS state,
    account,
    livemode,
    actor,
    request_id,
    idempotency_key,
    causation,
    customer,
    charge,
    payment_intent,
    recorded_at
   FROM ledger.events;
GRANT SELECT ON ledger.readable_events TO ledger_api;
GRANT SELECT ON ledger.readable_events TO ledger_projector;

CREATE OR REPLACE FUNCTION ledger.append(appender uuid, number bigint, at double precision, checks json, events json, replies json, OUT base bigint, OUT recorded timestamp with time zone, OUT stale integer[], OUT taken integer[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.append_any(appender uuid, number bigint, at double precision, check_command integer[], check_stream text[], check_version integer[], event_command integer[], event_stream text[], event_version integer[], event_topic text[], event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[], event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[], event_charge text[], event_payment_intent text[], reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[], reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[], reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[], OUT base bigint, OUT stale integer[], OUT taken integer[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.append_batch(appender uuid, number bigint, at double precision, check_command integer[], check_stream text[], check_version integer[], event_command integer[], event_stream text[], event_version integer[], event_topic text[], event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[], event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[], event_charge text[], event_payment_intent text[], reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[], reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[], OUT base bigint, OUT stale integer[], OUT taken integer[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
            (account, livemode, key, fingerprint, status, body, secret_of, secret_at, request_id,
             created_at, position)
        SELECT r.account, r.livemode, r.key, r.fingerprint, r.status, r.body, r.secret_of, r.secret_at,
               r.request_id, recorded,
               base + r.place - CASE WHEN refused_places IS NULL THEN 0 ELSE
                   (SELECT count(*) FROM unnest(refused_places) AS refused(place)
                    WHERE refused.place <= r.place) END
            FROM (SELECT unnest(reply_command) AS command, unnest(reply_account) AS account,
                         unnest(reply_livemode) AS livemode, unnest(reply_key) AS key,
                         unnest(reply_fingerprint) AS fingerprint, unnest(reply_status) AS status,
                         unnest(reply_body) AS body, unnest(reply_secret_of) AS secret_of,
                         unnest(reply_secret_at) AS secret_at, unnest(reply_request_id) AS request_id,
                         unnest(reply_place) AS place) AS r
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.append_many(appender uuid, number bigint, at double precision, check_command integer[], check_stream text[], check_version integer[], event_command integer[], event_stream text[], event_version integer[], event_topic text[], event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[], event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[], event_charge text[], event_payment_intent text[], reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[], reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[], reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[], OUT base bigint, OUT stale integer[], OUT taken integer[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.append_one(appender uuid, number bigint, at double precision, check_stream text, check_version integer, event_stream text, event_version integer, event_topic text, event_state bytea, event_account text, event_livemode boolean, event_actor text, event_request_id text, event_idempotency_key text, event_causation text, event_customer text, event_charge text, event_payment_intent text, reply_account text, reply_livemode boolean, reply_key text, reply_fingerprint text, reply_status smallint, reply_body text, reply_compressed bytea, reply_secret_of text, reply_secret_at integer, reply_request_id text, OUT base bigint, OUT stale integer[], OUT taken integer[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.movement_id(state bytea)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN ((convert_from(state, 'UTF8'::name))::json #>> '{movement,id}'::text[]);

CREATE OR REPLACE FUNCTION ledger.record_digest(event ledger.events)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT sha256(
        '\x6c65646765722f7265636f72642f310a'::bytea -- ledger/record/1 and a newline
        || ledger.record_text(event.notification_id::text)
        || ledger.record_text(event.originator_id)
        || ledger.record_text(event.originator_version::text)
        || ledger.record_text(event.topic)
        || ledger.record_text(event.account)
        || ledger.record_text(event.livemode::text)
        || ledger.record_text(event.actor)
        || ledger.record_text(event.request_id)
        || ledger.record_text(event.idempotency_key)
        || ledger.record_text(event.causation)
        || ledger.record_text(event.customer)
        || ledger.record_text(event.charge)
        || ledger.record_text(event.payment_intent)
        || ledger.record_text(((extract(epoch FROM event.recorded_at - '1970-01-01 00:00:00+00'::timestamptz)
                                * 1000000)::bigint)::text)
        || int4send(length(event.state)) || event.state)
$function$;

CREATE OR REPLACE FUNCTION ledger.record_text(content text)
 RETURNS bytea
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT coalesce(int4send(octet_length(content)) || decode(replace(content, '\', '\\'), 'escape'),
                    '\xffffffff'::bytea)
$function$;

CREATE OR REPLACE FUNCTION ledger.refuse_changing_files()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION 'the bytes of files are kept: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END $function$;

CREATE OR REPLACE FUNCTION ledger.refuse_losing_files()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF EXISTS (SELECT FROM ledger.events e WHERE e.originator_id = OLD.file) THEN
        RAISE EXCEPTION 'the bytes of % are kept', OLD.file USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END $function$;

CREATE OR REPLACE FUNCTION ledger.refuse_rewriting()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $function$;

CREATE OR REPLACE FUNCTION ledger.refuse_tree_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'tree_tiles' THEN
        IF NEW.level = OLD.level AND NEW.number = OLD.number
            AND substr(NEW.hashes, 1, length(OLD.hashes)) = OLD.hashes THEN
            RETURN NEW;
        END IF;
    ELSIF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'tree_head' THEN
        IF NEW.size > OLD.size OR (NEW.size = OLD.size AND NEW.root = OLD.root) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'ledger.% only grows: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $function$;


CREATE SCHEMA projections;
GRANT USAGE ON SCHEMA projections TO ledger_api;
GRANT CREATE, USAGE ON SCHEMA projections TO ledger_projector;

CREATE TABLE projections.audit_keys (
    generation integer NOT NULL,
    by_owner integer NOT NULL,
    id bigint NOT NULL,
    "position" bigint NOT NULL,
    created bigint,
    by_creation bigint,
    by_topic integer NOT NULL,
    by_actor integer,
    by_actor_and_topic integer,
    by_request integer,
    by_idempotency_key integer,
    aggregate text,
    CONSTRAINT audit_keys_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX audit_keys_by_actor ON projections.audit_keys USING btree (by_actor, "position") WITH (fillfactor='100') WHERE (by_actor IS NOT NULL);
CREATE INDEX audit_keys_by_actor_and_topic ON projections.audit_keys USING btree (by_actor_and_topic, "position") WITH (fillfactor='100') WHERE (by_actor_and_topic IS NOT NULL);
CREATE INDEX audit_keys_by_creation ON projections.audit_keys USING btree (by_creation, "position") WITH (fillfactor='100') WHERE (by_creation IS NOT NULL);
CREATE INDEX audit_keys_by_idempotency_key ON projections.audit_keys USING btree (by_idempotency_key, "position") WHERE (by_idempotency_key IS NOT NULL);
CREATE INDEX audit_keys_by_owner ON projections.audit_keys USING btree (by_owner, "position") WITH (fillfactor='100');
CREATE INDEX audit_keys_by_request ON projections.audit_keys USING btree (by_request, "position") WHERE (by_request IS NOT NULL);
CREATE INDEX audit_keys_by_topic ON projections.audit_keys USING btree (by_topic, "position") WITH (fillfactor='100');
ALTER TABLE projections.audit_keys OWNER TO ledger_projector;
GRANT SELECT ON projections.audit_keys TO ledger_api;

CREATE TABLE projections.balance_changes (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    currency text NOT NULL,
    net bigint NOT NULL,
    available_on bigint NOT NULL,
    CONSTRAINT balance_changes_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX balance_changes_in_order ON projections.balance_changes USING btree (account, livemode, "position") INCLUDE (generation, currency, net);
CREATE INDEX balance_changes_pending ON projections.balance_changes USING btree (account, livemode, available_on) INCLUDE (generation, currency, net);
ALTER TABLE projections.balance_changes OWNER TO ledger_projector;
GRANT SELECT ON projections.balance_changes TO ledger_api;

CREATE TABLE projections.balance_transactions (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    type text NOT NULL,
    currency text NOT NULL,
    source text NOT NULL,
    fact bytea NOT NULL,
    CONSTRAINT balance_transactions_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX balance_transactions_hashed_by_currency ON projections.balance_transactions USING btree (hash_record_extended(ROW(account, livemode, currency), (0)::bigint), created, "position") WITH (fillfactor='100');
CREATE INDEX balance_transactions_hashed_by_source ON projections.balance_transactions USING btree (hash_record_extended(ROW(account, livemode, source), (0)::bigint), created, "position") WITH (fillfactor='100');
CREATE INDEX balance_transactions_hashed_by_type ON projections.balance_transactions USING btree (hash_record_extended(ROW(account, livemode, type), (0)::bigint), created, "position") WITH (fillfactor='100');
CREATE INDEX balance_transactions_hashed_newest ON projections.balance_transactions USING btree (hash_record_extended(ROW(account, livemode), (0)::bigint), created, "position") WITH (fillfactor='100');
ALTER TABLE projections.balance_transactions OWNER TO ledger_projector;
GRANT SELECT ON projections.balance_transactions TO ledger_api;

CREATE TABLE projections.builds (
    rebuild bigint NOT NULL,
    projection text NOT NULL,
    generation integer NOT NULL,
    shape integer NOT NULL,
    ended boolean NOT NULL DEFAULT false,
    attached boolean NOT NULL DEFAULT false,
    CONSTRAINT builds_key PRIMARY KEY (projection, generation),
    CONSTRAINT builds_rebuild_fkey FOREIGN KEY (rebuild) REFERENCES projections.rebuilds(id)
);
CREATE UNIQUE INDEX builds_under_way ON projections.builds USING btree (projection) WHERE (NOT ended);
GRANT SELECT ON projections.builds TO ledger_api;
GRANT DELETE, INSERT, SELECT, UPDATE ON projections.builds TO ledger_projector;

CREATE TABLE projections.charges (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    customer text,
    payment_intent text,
    transfer_group text,
    state bytea NOT NULL,
    CONSTRAINT charges_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX charges_hashed_by_customer ON projections.charges USING btree (hash_record_extended(ROW(account, livemode, customer), (0)::bigint), created, "position") WHERE (customer IS NOT NULL);
CREATE INDEX charges_hashed_by_payment_intent ON projections.charges USING btree (hash_record_extended(ROW(account, livemode, payment_intent), (0)::bigint), created, "position") WHERE (payment_intent IS NOT NULL);
CREATE INDEX charges_hashed_by_transfer_group ON projections.charges USING btree (hash_record_extended(ROW(account, livemode, transfer_group), (0)::bigint), created, "position") WHERE (transfer_group IS NOT NULL);
CREATE INDEX charges_hashed_newest ON projections.charges USING btree (hash_record_extended(ROW(account, livemode), (0)::bigint), created, "position");
ALTER TABLE projections.charges OWNER TO ledger_projector;
GRANT SELECT ON projections.charges TO ledger_api;

CREATE TABLE projections.checkpoints (
    projection text NOT NULL,
    generation integer NOT NULL,
    "position" bigint NOT NULL DEFAULT 0,
    recorded_at timestamp with time zone NOT NULL DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone,
    shape integer NOT NULL DEFAULT 1,
    CONSTRAINT checkpoints_key PRIMARY KEY (projection, generation)
) WITH (fillfactor=20);
GRANT SELECT ON projections.checkpoints TO ledger_api;
GRANT DELETE, INSERT, SELECT, UPDATE ON projections.checkpoints TO ledger_projector;

CREATE TABLE projections.customers (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    deleted boolean NOT NULL,
    email text,
    state bytea NOT NULL,
    CONSTRAINT customers_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX customers_hashed_by_email ON projections.customers USING btree (hash_record_extended(ROW(account, livemode, email), (0)::bigint), created, "position") WHERE (NOT deleted);
CREATE INDEX customers_hashed_newest ON projections.customers USING btree (hash_record_extended(ROW(account, livemode), (0)::bigint), created, "position") WHERE (NOT deleted);
ALTER TABLE projections.customers OWNER TO ledger_projector;
GRANT SELECT ON projections.customers TO ledger_api;

CREATE TABLE projections.deadlines (
    generation integer NOT NULL,
    id text NOT NULL,
    "position" bigint NOT NULL,
    kind text NOT NULL,
    moment bigint,
    CONSTRAINT deadlines_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX deadlines_next ON projections.deadlines USING btree (kind, moment, id) WHERE (moment IS NOT NULL);
ALTER TABLE projections.deadlines OWNER TO ledger_projector;
GRANT SELECT ON projections.deadlines TO ledger_api;

CREATE TABLE projections.disputes (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    charge text NOT NULL,
    payment_intent text,
    state bytea NOT NULL,
    CONSTRAINT disputes_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX disputes_by_charge ON projections.disputes USING btree (account, livemode, charge, created, "position");
CREATE INDEX disputes_by_payment_intent ON projections.disputes USING btree (account, livemode, payment_intent, created, "position") WHERE (payment_intent IS NOT NULL);
CREATE INDEX disputes_newest ON projections.disputes USING btree (account, livemode, created, "position");
ALTER TABLE projections.disputes OWNER TO ledger_projector;
GRANT SELECT ON projections.disputes TO ledger_api;

CREATE TABLE projections.feed (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    ordinal smallint NOT NULL,
    type text NOT NULL,
    object_id text NOT NULL,
    api_version text NOT NULL,
    request_id text,
    idempotency_key text,
    data text NOT NULL,
    CONSTRAINT feed_key PRIMARY KEY (generation, id, created)
) PARTITION BY LIST (generation);
CREATE INDEX feed_hashed_by_type ON projections.feed USING btree (hash_record_extended(ROW(account, livemode, type), (0)::bigint), created, "position", ordinal) WITH (fillfactor='100');
CREATE INDEX feed_hashed_newest ON projections.feed USING btree (hash_record_extended(ROW(account, livemode), (0)::bigint), created, "position", ordinal) WITH (fillfactor='100');
ALTER TABLE projections.feed OWNER TO ledger_projector;
GRANT SELECT ON projections.feed TO ledger_api;

CREATE TABLE projections.file_links (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    file text NOT NULL,
    expires_at bigint,
    state bytea NOT NULL,
    CONSTRAINT file_links_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX file_links_by_file ON projections.file_links USING btree (account, livemode, file, created, "position");
CREATE INDEX file_links_newest ON projections.file_links USING btree (account, livemode, created, "position");
ALTER TABLE projections.file_links OWNER TO ledger_projector;
GRANT SELECT ON projections.file_links TO ledger_api;

CREATE TABLE projections.files (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    purpose text NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT files_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX files_by_purpose ON projections.files USING btree (account, livemode, purpose, created, "position");
CREATE INDEX files_newest ON projections.files USING btree (account, livemode, created, "position");
ALTER TABLE projections.files OWNER TO ledger_projector;
GRANT SELECT ON projections.files TO ledger_api;

CREATE TABLE projections.live (
    projection text NOT NULL,
    generation integer NOT NULL,
    CONSTRAINT live_projection PRIMARY KEY (projection),
    CONSTRAINT live_checkpoint FOREIGN KEY (projection, generation) REFERENCES projections.checkpoints(projection, generation)
);
GRANT SELECT ON projections.live TO ledger_api;
GRANT DELETE, INSERT, SELECT, UPDATE ON projections.live TO ledger_projector;

CREATE TABLE projections.operations (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at timestamp with time zone NOT NULL DEFAULT now(),
    who text NOT NULL,
    action text NOT NULL,
    projection text NOT NULL,
    generation integer NOT NULL,
    "position" bigint NOT NULL,
    reason text NOT NULL,
    idempotency_key text,
    details jsonb NOT NULL,
    logged boolean NOT NULL DEFAULT false,
    CONSTRAINT operations_key PRIMARY KEY (id)
);
CREATE INDEX operations_of_projection ON projections.operations USING btree (projection, id);
CREATE UNIQUE INDEX operations_once ON projections.operations USING btree (who, idempotency_key, action, projection) WHERE (idempotency_key IS NOT NULL);
CREATE INDEX operations_to_log ON projections.operations USING btree (id) WHERE (NOT logged);
GRANT SELECT ON projections.operations TO ledger_api;
GRANT INSERT, SELECT ON projections.operations TO ledger_projector;

CREATE TABLE projections.parked (
    projection text NOT NULL,
    generation integer NOT NULL,
    stream text NOT NULL,
    "position" bigint NOT NULL,
    error text NOT NULL,
    parked_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT parked_key PRIMARY KEY (projection, generation, stream)
);
GRANT SELECT ON projections.parked TO ledger_api;
GRANT DELETE, INSERT, SELECT, UPDATE ON projections.parked TO ledger_projector;

CREATE TABLE projections.payment_intents (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    customer text,
    deleted boolean NOT NULL,
    published boolean NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT payment_intents_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX payment_intents_by_customer ON projections.payment_intents USING btree (account, livemode, customer, created, "position") WHERE ((NOT deleted) AND (customer IS NOT NULL));
CREATE INDEX payment_intents_newest ON projections.payment_intents USING btree (account, livemode, created, "position") WHERE (NOT deleted);
ALTER TABLE projections.payment_intents OWNER TO ledger_projector;
GRANT SELECT ON projections.payment_intents TO ledger_api;

CREATE TABLE projections.payment_methods (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    card text NOT NULL,
    customer text,
    saved boolean NOT NULL,
    CONSTRAINT payment_methods_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX payment_methods_hashed_by_card ON projections.payment_methods USING btree (hash_record_extended(ROW(account, livemode, card), (0)::bigint), created, "position");
CREATE INDEX payment_methods_newest ON projections.payment_methods USING btree (account, livemode, created, "position") WHERE saved;
ALTER TABLE projections.payment_methods OWNER TO ledger_projector;
GRANT SELECT ON projections.payment_methods TO ledger_api;

CREATE TABLE projections.postings (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    ordinal smallint NOT NULL,
    ledger_account text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    transaction text NOT NULL,
    source text NOT NULL,
    CONSTRAINT postings_key PRIMARY KEY (generation, id),
    CONSTRAINT postings_amount_not_zero CHECK (amount <> 0)
) PARTITION BY LIST (generation);
CREATE UNIQUE INDEX postings_place ON projections.postings USING btree (generation, "position", ordinal);
CREATE CONSTRAINT TRIGGER postings_balance AFTER INSERT OR DELETE OR UPDATE ON projections.postings DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION projections.refuse_unbalanced();
ALTER TABLE projections.postings OWNER TO ledger_projector;
GRANT SELECT ON projections.postings TO ledger_api;

CREATE TABLE projections.rebuilds (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    state text NOT NULL DEFAULT 'filling'::text,
    paused boolean NOT NULL DEFAULT false,
    error text,
    workers integer NOT NULL,
    accept_differences boolean NOT NULL,
    upto bigint NOT NULL,
    events bigint,
    who text NOT NULL,
    reason text NOT NULL,
    began_at timestamp with time zone NOT NULL DEFAULT now(),
    changed_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT rebuilds_key PRIMARY KEY (id),
    CONSTRAINT rebuilds_state CHECK (state = ANY (ARRAY['filling'::text, 'indexing'::text, 'catching up'::text, 'comparing'::text, 'differing'::text, 'switched'::text, 'cancelled'::text])),
    CONSTRAINT rebuilds_workers CHECK (workers >= 1 AND workers <= 64)
);
GRANT SELECT ON projections.rebuilds TO ledger_api;
GRANT DELETE, INSERT, SELECT, UPDATE ON projections.rebuilds TO ledger_projector;

CREATE TABLE projections.refunds (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    charge text NOT NULL,
    payment_intent text,
    state bytea NOT NULL,
    CONSTRAINT refunds_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX refunds_by_charge ON projections.refunds USING btree (account, livemode, charge, created, "position");
CREATE INDEX refunds_by_payment_intent ON projections.refunds USING btree (account, livemode, payment_intent, created, "position") WHERE (payment_intent IS NOT NULL);
CREATE INDEX refunds_newest ON projections.refunds USING btree (account, livemode, created, "position");
ALTER TABLE projections.refunds OWNER TO ledger_projector;
GRANT SELECT ON projections.refunds TO ledger_api;

CREATE TABLE projections.resources (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    type text NOT NULL,
    deleted boolean NOT NULL,
    customer text,
    subscription text,
    status text,
    state bytea NOT NULL,
    CONSTRAINT resources_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX resources_by_customer ON projections.resources USING btree (account, livemode, type, customer, created, "position") WHERE ((NOT deleted) AND (customer IS NOT NULL));
CREATE INDEX resources_by_subscription ON projections.resources USING btree (account, livemode, type, subscription, created, "position") WHERE ((NOT deleted) AND (subscription IS NOT NULL));
CREATE INDEX resources_newest ON projections.resources USING btree (account, livemode, type, created, "position") WHERE (NOT deleted);
ALTER TABLE projections.resources OWNER TO ledger_projector;
GRANT SELECT ON projections.resources TO ledger_api;

CREATE TABLE projections.shares (
    rebuild bigint NOT NULL,
    share integer NOT NULL,
    stream text NOT NULL DEFAULT ''::text,
    events bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    done boolean NOT NULL DEFAULT false,
    began_at timestamp with time zone NOT NULL DEFAULT now(),
    began_events bigint NOT NULL DEFAULT 0,
    changed_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT shares_key PRIMARY KEY (rebuild, share),
    CONSTRAINT shares_rebuild_fkey FOREIGN KEY (rebuild) REFERENCES projections.rebuilds(id)
) WITH (fillfactor=20);
GRANT SELECT ON projections.shares TO ledger_api;
GRANT DELETE, INSERT, SELECT, UPDATE ON projections.shares TO ledger_projector;

CREATE TABLE projections.verified (
    projection text NOT NULL,
    generation integer NOT NULL,
    "position" bigint NOT NULL,
    rows bigint NOT NULL,
    differing bigint NOT NULL,
    keys text[] NOT NULL,
    checked_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT verified_key PRIMARY KEY (projection, generation)
) WITH (fillfactor=50);
GRANT SELECT ON projections.verified TO ledger_api;
GRANT DELETE, INSERT, SELECT, UPDATE ON projections.verified TO ledger_projector;

CREATE TABLE projections.webhook_endpoints (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    deleted boolean NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT webhook_endpoints_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX webhook_endpoints_newest ON projections.webhook_endpoints USING btree (account, livemode, created, "position") WHERE (NOT deleted);
CREATE INDEX webhook_endpoints_of_account ON projections.webhook_endpoints USING btree (account, livemode);
ALTER TABLE projections.webhook_endpoints OWNER TO ledger_projector;
GRANT SELECT ON projections.webhook_endpoints TO ledger_api;

CREATE OR REPLACE FUNCTION projections.drop_superseded()
 RETURNS SETOF text
 LANGUAGE plpgsql
 SET lock_timeout TO '2s'
AS $function$
DECLARE
    projection text;
    superseded text;
    successor text;
BEGIN
    IF EXISTS (SELECT FROM projections.checkpoints c WHERE c.projection = 'audit_index') THEN
        RETURN NEXT 'audit_index';
    ELSE
        DROP TABLE IF EXISTS projections.audit_index;
    END IF;
    FOR projection, superseded, successor IN VALUES
    ('customers', 'customers_newest', 'customers_hashed_newest'),
    ('customers', 'customers_by_email', 'customers_hashed_by_email'),
    ('charges', 'charges_newest', 'charges_hashed_newest'),
    ('charges', 'charges_by_customer', 'charges_hashed_by_customer'),
    ('charges', 'charges_by_payment_intent', 'charges_hashed_by_payment_intent'),
    ('charges', 'charges_by_transfer_group', 'charges_hashed_by_transfer_group'),
    ('balance_transactions', 'balance_transactions_newest', 'balance_transactions_hashed_newest'),
    ('balance_transactions', 'balance_transactions_by_currency', 'balance_transactions_hashed_by_currency'),
    ('balance_transactions', 'balance_transactions_by_source', 'balance_transactions_hashed_by_source'),
    ('balance_transactions', 'balance_transactions_by_type', 'balance_transactions_hashed_by_type'),
    ('payment_methods', 'payment_methods_by_card', 'payment_methods_hashed_by_card'),
    ('feed', 'feed_newest', 'feed_hashed_newest'),
    ('feed', 'feed_by_type', 'feed_hashed_by_type')
    LOOP
        IF EXISTS (
            SELECT FROM pg_inherits g WHERE g.inhparent = ('projections.' || projection)::regclass
            AND NOT EXISTS (
                SELECT FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
                WHERE i.inhparent = ('projections.' || successor)::regclass AND x.indrelid = g.inhrelid))
        THEN
            RETURN NEXT projection;
        ELSE
            EXECUTE format('DROP INDEX IF EXISTS projections.%I', superseded);
        END IF;
    END LOOP;
END $function$;

CREATE OR REPLACE FUNCTION projections.refuse_unbalanced()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE
    changed record := NEW;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
    ELSIF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'a posting never changes' USING ERRCODE = 'restrict_violation';
    END IF;
    IF (SELECT sum(p.amount) FROM projections.postings p
        WHERE p.generation = changed.generation AND p.position = changed.position
        AND p.currency = changed.currency) <> 0
    THEN
        RAISE EXCEPTION 'the postings of position % do not balance in %', changed.position, changed.currency
            USING ERRCODE = 'check_violation', SCHEMA = 'projections', TABLE = 'postings',
                  CONSTRAINT = 'postings_balance';
    END IF;
    RETURN NULL;
END $function$;


CREATE SCHEMA webhooks;
GRANT USAGE ON SCHEMA webhooks TO ledger_api;

CREATE TABLE webhooks.attempts (
    delivery text NOT NULL,
    number smallint NOT NULL,
    at timestamp with time zone NOT NULL,
    duration_ms integer NOT NULL,
    status smallint,
    answer bytea,
    error text,
    CONSTRAINT attempts_key PRIMARY KEY (delivery, number),
    CONSTRAINT attempts_delivery_fkey FOREIGN KEY (delivery) REFERENCES webhooks.deliveries(id) ON DELETE CASCADE,
    CONSTRAINT attempts_outcome CHECK ((status IS NULL) = (error IS NOT NULL))
);
GRANT DELETE, INSERT, SELECT, UPDATE ON webhooks.attempts TO ledger_api;

CREATE TABLE webhooks.checkpoint (
    one boolean NOT NULL DEFAULT true,
    "position" bigint NOT NULL DEFAULT 0,
    CONSTRAINT checkpoint_pkey PRIMARY KEY (one),
    CONSTRAINT checkpoint_is_one_row CHECK (one)
) WITH (fillfactor=20);
GRANT DELETE, INSERT, SELECT, UPDATE ON webhooks.checkpoint TO ledger_api;

CREATE TABLE webhooks.deliveries (
    id text NOT NULL,
    event text NOT NULL,
    endpoint text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    ordinal smallint NOT NULL,
    type text NOT NULL,
    state text NOT NULL DEFAULT 'pending'::text,
    tries smallint NOT NULL DEFAULT 0,
    due_at timestamp with time zone NOT NULL,
    leased_until timestamp with time zone NOT NULL DEFAULT '-infinity'::timestamp with time zone,
    CONSTRAINT deliveries_key PRIMARY KEY (id),
    CONSTRAINT deliveries_once UNIQUE (event, endpoint),
    CONSTRAINT deliveries_state CHECK (state = ANY (ARRAY['pending'::text, 'delivered'::text, 'failed'::text, 'dropped'::text]))
);
CREATE INDEX deliveries_due ON webhooks.deliveries USING btree (endpoint, due_at) WHERE (state = 'pending'::text);
CREATE INDEX deliveries_owed ON webhooks.deliveries USING btree (account, livemode, created, "position", ordinal) WHERE (state = ANY (ARRAY['pending'::text, 'failed'::text]));
GRANT DELETE, INSERT, SELECT, UPDATE ON webhooks.deliveries TO ledger_api;

CREATE TABLE webhooks.endpoint_health (
    endpoint text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    failing boolean NOT NULL,
    since timestamp with time zone NOT NULL,
    attempts integer NOT NULL,
    given_up integer NOT NULL,
    last_attempt_at timestamp with time zone NOT NULL,
    status smallint,
    error text,
    began_at timestamp with time zone NOT NULL,
    failure_logged_at timestamp with time zone NOT NULL DEFAULT '-infinity'::timestamp with time zone,
    given_up_logged_at timestamp with time zone NOT NULL DEFAULT '-infinity'::timestamp with time zone,
    CONSTRAINT endpoint_health_key PRIMARY KEY (endpoint),
    CONSTRAINT endpoint_health_outcome CHECK ((status IS NULL) = (error IS NOT NULL))
) WITH (fillfactor=50);
CREATE INDEX endpoint_health_failing ON webhooks.endpoint_health USING btree (since) WHERE failing;
GRANT DELETE, INSERT, SELECT, UPDATE ON webhooks.endpoint_health TO ledger_api;

CREATE TABLE webhooks.late (
    stream text NOT NULL,
    "position" bigint NOT NULL,
    CONSTRAINT late_stream PRIMARY KEY (stream)
);
GRANT DELETE, INSERT, SELECT, UPDATE ON webhooks.late TO ledger_api;

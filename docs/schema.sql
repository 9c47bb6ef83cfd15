-- The database schema that the migrations in alembic/versions make: to read in one file, not to run.
-- `make schema` writes this file. A projection's table is partitioned by generation: the service makes and
-- drops the partitions while it runs.

CREATE ROLE ledger_analyst NOLOGIN;
CREATE ROLE ledger_api NOLOGIN;
CREATE ROLE ledger_projector NOLOGIN;


CREATE SCHEMA alerts;
GRANT USAGE ON SCHEMA alerts TO ledger_api;

CREATE TABLE alerts.alerts (
    id text NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL,
    summary text NOT NULL,
    cause text NOT NULL,
    details jsonb NOT NULL,
    state text NOT NULL DEFAULT 'active'::text,
    lasts boolean NOT NULL DEFAULT true,
    raised_at timestamp with time zone NOT NULL DEFAULT now(),
    absent_since timestamp with time zone,
    ended_at timestamp with time zone,
    CONSTRAINT alerts_key PRIMARY KEY (id),
    CONSTRAINT alerts_active_lasts CHECK (state <> 'active'::text OR lasts),
    CONSTRAINT alerts_end CHECK ((state = 'active'::text) = (ended_at IS NULL)),
    CONSTRAINT alerts_severity CHECK (severity = ANY (ARRAY['warning'::text, 'critical'::text])),
    CONSTRAINT alerts_state CHECK (state = ANY (ARRAY['active'::text, 'cleared'::text, 'resolved'::text]))
) WITH (fillfactor=50);
CREATE INDEX alerts_ended ON alerts.alerts USING btree (ended_at) WHERE (ended_at IS NOT NULL);
CREATE UNIQUE INDEX alerts_one_of_key ON alerts.alerts USING btree (key) WHERE lasts;
GRANT DELETE, INSERT, SELECT, UPDATE ON alerts.alerts TO ledger_api;

CREATE TABLE alerts.events (
    sequence bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    id text NOT NULL,
    alert text NOT NULL,
    type text NOT NULL,
    at timestamp with time zone NOT NULL DEFAULT now(),
    severity text NOT NULL,
    summary text NOT NULL,
    cause text NOT NULL,
    details jsonb NOT NULL,
    who text,
    reason text,
    CONSTRAINT events_key PRIMARY KEY (sequence),
    CONSTRAINT events_id UNIQUE (id),
    CONSTRAINT events_alert FOREIGN KEY (alert) REFERENCES alerts.alerts(id) ON DELETE CASCADE,
    CONSTRAINT events_type CHECK (type = ANY (ARRAY['raised'::text, 'elevated'::text, 'resolved'::text, 'cleared'::text]))
);
CREATE INDEX events_of_alert ON alerts.events USING btree (alert, sequence);
GRANT INSERT, SELECT ON alerts.events TO ledger_api;

CREATE TABLE alerts.lease (
    only_one boolean NOT NULL DEFAULT true,
    holder text NOT NULL DEFAULT ''::text,
    leased_until timestamp with time zone NOT NULL DEFAULT '-infinity'::timestamp with time zone,
    looked_at timestamp with time zone,
    CONSTRAINT lease_key PRIMARY KEY (only_one),
    CONSTRAINT lease_of_one CHECK (only_one)
) WITH (fillfactor=10);
GRANT SELECT, UPDATE ON alerts.lease TO ledger_api;

CREATE TABLE alerts.notices (
    receiver text NOT NULL,
    sequence bigint NOT NULL,
    state text NOT NULL DEFAULT 'pending'::text,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamp with time zone NOT NULL DEFAULT now(),
    attempted_at timestamp with time zone,
    duration_ms integer,
    status smallint,
    error text,
    CONSTRAINT notices_key PRIMARY KEY (receiver, sequence),
    CONSTRAINT notices_event FOREIGN KEY (sequence) REFERENCES alerts.events(sequence) ON DELETE CASCADE,
    CONSTRAINT notices_receiver FOREIGN KEY (receiver) REFERENCES alerts.receivers(id),
    CONSTRAINT notices_state CHECK (state = ANY (ARRAY['pending'::text, 'delivered'::text, 'failed'::text, 'dropped'::text]))
) WITH (fillfactor=50);
CREATE INDEX notices_of_event ON alerts.notices USING btree (sequence);
CREATE INDEX notices_pending ON alerts.notices USING btree (receiver, sequence) WHERE (state = 'pending'::text);
GRANT INSERT, SELECT, UPDATE ON alerts.notices TO ledger_api;

CREATE TABLE alerts.receivers (
    id text NOT NULL,
    host text NOT NULL,
    sealed_url bytea,
    description text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    removed_at timestamp with time zone,
    CONSTRAINT receivers_key PRIMARY KEY (id),
    CONSTRAINT receivers_url CHECK ((sealed_url IS NULL) = (removed_at IS NOT NULL))
);
GRANT INSERT, SELECT, UPDATE ON alerts.receivers TO ledger_api;


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

CREATE TABLE ledger.activations (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at timestamp with time zone NOT NULL DEFAULT now(),
    action text NOT NULL,
    who text NOT NULL,
    reason text NOT NULL,
    database_oid bigint,
    table_oid bigint,
    system_identifier bigint,
    sends_webhooks boolean NOT NULL,
    details jsonb NOT NULL,
    CONSTRAINT activations_key PRIMARY KEY (id),
    CONSTRAINT activations_action CHECK (action = ANY (ARRAY['first_start'::text, 'pause'::text, 'resume'::text, 'declare_copy'::text]))
);
CREATE UNIQUE INDEX activations_first_start ON ledger.activations USING btree (action) WHERE (action = 'first_start'::text);
GRANT INSERT, SELECT ON ledger.activations TO ledger_api;
GRANT SELECT ON ledger.activations TO ledger_projector;

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
    hundred bigint NOT NULL DEFAULT 0,
    CONSTRAINT appenders_id PRIMARY KEY (id, hundred)
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

CREATE TABLE ledger.clear_exports (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    account text NOT NULL,
    livemode boolean NOT NULL,
    "position" bigint NOT NULL,
    host text NOT NULL,
    path text,
    operator text NOT NULL,
    size_bytes bigint NOT NULL,
    digest bytea NOT NULL,
    first_digest bytea NOT NULL,
    made_at timestamp with time zone NOT NULL DEFAULT now(),
    rewritten_at timestamp with time zone,
    removed_at timestamp with time zone,
    CONSTRAINT clear_exports_key PRIMARY KEY (id)
);
CREATE INDEX clear_exports_present ON ledger.clear_exports USING btree (account, livemode, id) WHERE (removed_at IS NULL);
GRANT INSERT, SELECT ON ledger.clear_exports TO ledger_api;

CREATE TABLE ledger.clock (
    one boolean NOT NULL DEFAULT true,
    ahead_seconds double precision NOT NULL DEFAULT 0,
    CONSTRAINT clock_pkey PRIMARY KEY (one),
    CONSTRAINT clock_is_one_row CHECK (one)
);
GRANT SELECT, UPDATE ON ledger.clock TO ledger_api;
GRANT SELECT ON ledger.clock TO ledger_projector;

CREATE TABLE ledger.console_links (
    hash bytea NOT NULL,
    key text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT console_links_key PRIMARY KEY (hash),
    CONSTRAINT console_links_of_key FOREIGN KEY (key) REFERENCES ledger.api_keys(id)
);
GRANT DELETE, INSERT, SELECT ON ledger.console_links TO ledger_api;

CREATE TABLE ledger.console_sessions (
    hash bytea NOT NULL,
    key text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT console_sessions_key PRIMARY KEY (hash),
    CONSTRAINT console_sessions_of_key FOREIGN KEY (key) REFERENCES ledger.api_keys(id)
);
CREATE INDEX console_sessions_by_expiry ON ledger.console_sessions USING btree (expires_at);
GRANT DELETE, INSERT, SELECT ON ledger.console_sessions TO ledger_api;

CREATE TABLE ledger.data_keys (
    subject text NOT NULL,
    wrapped bytea,
    wrapped_by text,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    erasing_since timestamp with time zone,
    destroyed_at timestamp with time zone,
    CONSTRAINT data_keys_destroyed CHECK (destroyed_at IS NULL OR wrapped IS NULL),
    CONSTRAINT data_keys_erased CHECK (wrapped IS NOT NULL OR erasing_since IS NOT NULL),
    CONSTRAINT data_keys_wrap CHECK ((wrapped IS NULL) = (wrapped_by IS NULL))
) PARTITION BY HASH (ledger.key_group(subject));
ALTER TABLE ledger.data_keys ALTER COLUMN subject SET STORAGE PLAIN;
ALTER TABLE ledger.data_keys ALTER COLUMN wrapped SET STORAGE PLAIN;
ALTER TABLE ledger.data_keys ALTER COLUMN wrapped_by SET STORAGE PLAIN;
CREATE INDEX data_keys_erasing ON ledger.data_keys USING btree (subject) WHERE ((erasing_since IS NOT NULL) AND (destroyed_at IS NULL));
GRANT DELETE, INSERT, SELECT, UPDATE ON ledger.data_keys TO ledger_api;
GRANT SELECT ON ledger.data_keys TO ledger_projector;

CREATE TABLE ledger.erasure_certificates (
    job text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    requested bigint NOT NULL,
    completed bigint NOT NULL,
    note text NOT NULL,
    made_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT erasure_certificates_key PRIMARY KEY (job),
    CONSTRAINT erasure_certificates_completed UNIQUE (completed),
    CONSTRAINT erasure_certificates_order CHECK (requested < completed)
);
CREATE INDEX erasure_certificates_page ON ledger.erasure_certificates USING btree (account, livemode, completed);
CREATE TRIGGER erasure_certificates_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.erasure_certificates FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_rewriting();
GRANT INSERT, SELECT ON ledger.erasure_certificates TO ledger_api;

CREATE TABLE ledger.erasure_epoch (
    epoch bigint NOT NULL,
    one boolean NOT NULL DEFAULT true,
    CONSTRAINT erasure_epoch_key PRIMARY KEY (one),
    CONSTRAINT erasure_epoch_is_one_row CHECK (one)
);
GRANT SELECT, UPDATE ON ledger.erasure_epoch TO ledger_api;
GRANT SELECT ON ledger.erasure_epoch TO ledger_projector;

CREATE TABLE ledger.erasure_streams (
    job text NOT NULL,
    stream text NOT NULL,
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    CONSTRAINT erasure_streams_key PRIMARY KEY (job, stream)
);
CREATE INDEX erasure_streams_found ON ledger.erasure_streams USING btree (job, number);
GRANT INSERT, SELECT ON ledger.erasure_streams TO ledger_api;
GRANT SELECT ON ledger.erasure_streams TO ledger_projector;

CREATE TABLE ledger.erasures (
    job text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    subjects text[] NOT NULL,
    requested_position bigint NOT NULL,
    step text NOT NULL DEFAULT 'closure'::text,
    cursor text NOT NULL DEFAULT ''::text,
    cursor_version integer NOT NULL DEFAULT 0,
    counts jsonb NOT NULL DEFAULT '{}'::jsonb,
    obstacle text,
    caches_until timestamp with time zone,
    sent_until timestamp with time zone,
    completed_position bigint,
    began_at timestamp with time zone NOT NULL DEFAULT now(),
    moved_at timestamp with time zone NOT NULL DEFAULT now(),
    ended_at timestamp with time zone,
    sending jsonb NOT NULL DEFAULT '{}'::jsonb,
    CONSTRAINT erasures_key PRIMARY KEY (job),
    CONSTRAINT erasures_end CHECK ((step = 'ended'::text) = (ended_at IS NOT NULL)),
    CONSTRAINT erasures_step CHECK (step = ANY (ARRAY['closure'::text, 'remnants'::text, 'replies'::text, 'keys'::text, 'rows'::text, 'answers'::text, 'files'::text, 'request_logs'::text, 'exports'::text, 'lease'::text, 'complete'::text, 'certificate'::text, 'ended'::text]))
) WITH (fillfactor=20);
CREATE INDEX erasures_unended ON ledger.erasures USING btree (job) WHERE (ended_at IS NULL);
GRANT INSERT, SELECT, UPDATE ON ledger.erasures TO ledger_api;
GRANT SELECT, UPDATE ON ledger.erasures TO ledger_projector;

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

CREATE TABLE ledger.export_rewrites (
    export bigint NOT NULL,
    job text NOT NULL,
    at timestamp with time zone NOT NULL DEFAULT now(),
    lines bigint NOT NULL,
    obstacle text,
    CONSTRAINT export_rewrites_key PRIMARY KEY (export, job),
    CONSTRAINT export_rewrites_export FOREIGN KEY (export) REFERENCES ledger.clear_exports(id)
);
CREATE INDEX export_rewrites_of_job ON ledger.export_rewrites USING btree (job);
GRANT INSERT, SELECT, UPDATE ON ledger.export_rewrites TO ledger_api;

CREATE TABLE ledger.file_chunks (
    file text NOT NULL,
    number integer NOT NULL,
    sealed bytea NOT NULL,
    stored_at timestamp with time zone NOT NULL DEFAULT now(),
    subject text,
    CONSTRAINT file_chunks_key PRIMARY KEY (file, number),
    CONSTRAINT file_chunks_number CHECK (number >= 0)
);
ALTER TABLE ledger.file_chunks ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX file_chunks_stored_at ON ledger.file_chunks USING brin (stored_at);
CREATE TRIGGER file_chunks_kept BEFORE DELETE ON ledger.file_chunks FOR EACH ROW EXECUTE FUNCTION ledger.refuse_losing_files();
CREATE TRIGGER file_chunks_unchanged BEFORE UPDATE OR TRUNCATE ON ledger.file_chunks FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_changing_files();
GRANT DELETE, INSERT, SELECT ON ledger.file_chunks TO ledger_api;

CREATE TABLE ledger.head_lock (
    one boolean NOT NULL DEFAULT true,
    CONSTRAINT head_lock_key PRIMARY KEY (one),
    CONSTRAINT head_lock_is_one_row CHECK (one)
);
GRANT SELECT, UPDATE ON ledger.head_lock TO ledger_api;
GRANT SELECT ON ledger.head_lock TO ledger_projector;

CREATE TABLE ledger.key_migration (
    "position" bigint NOT NULL DEFAULT 0,
    streams bigint NOT NULL DEFAULT 0,
    finished_at timestamp with time zone,
    one boolean NOT NULL DEFAULT true,
    CONSTRAINT key_migration_key PRIMARY KEY (one),
    CONSTRAINT key_migration_is_one_row CHECK (one)
);
GRANT SELECT, UPDATE ON ledger.key_migration TO ledger_api;
GRANT SELECT ON ledger.key_migration TO ledger_projector;

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

CREATE TABLE ledger.remnants (
    stream text NOT NULL,
    version integer NOT NULL,
    kept bytea NOT NULL,
    CONSTRAINT remnants_event PRIMARY KEY (stream, version)
);
GRANT DELETE, INSERT, SELECT, UPDATE ON ledger.remnants TO ledger_api;
GRANT SELECT ON ledger.remnants TO ledger_projector;

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
GRANT INSERT, SELECT, UPDATE ON ledger.service_key TO ledger_api;

CREATE TABLE ledger.service_keys (
    id text NOT NULL,
    state text NOT NULL,
    is_root boolean NOT NULL DEFAULT false,
    accepted_at timestamp with time zone NOT NULL DEFAULT now(),
    current_at timestamp with time zone,
    retired_at timestamp with time zone,
    CONSTRAINT service_keys_key PRIMARY KEY (id),
    CONSTRAINT service_keys_retired CHECK ((state = 'retired'::text) = (retired_at IS NOT NULL)),
    CONSTRAINT service_keys_state CHECK (state = ANY (ARRAY['accepted'::text, 'current'::text, 'retired'::text]))
);
CREATE UNIQUE INDEX service_keys_one_current ON ledger.service_keys USING btree (state) WHERE (state = 'current'::text);
GRANT INSERT, SELECT, UPDATE ON ledger.service_keys TO ledger_api;

CREATE TABLE ledger.service_secrets (
    purpose text NOT NULL,
    wrapped bytea NOT NULL,
    wrapped_by text NOT NULL,
    CONSTRAINT service_secrets_key PRIMARY KEY (purpose),
    CONSTRAINT service_secrets_wrapped_by FOREIGN KEY (wrapped_by) REFERENCES ledger.service_keys(id)
);
GRANT INSERT, SELECT, UPDATE ON ledger.service_secrets TO ledger_api;

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

CREATE TABLE ledger.stream_keys (
    stream text NOT NULL,
    subject text NOT NULL,
    wrapped bytea,
    CONSTRAINT stream_keys_stream PRIMARY KEY (stream)
);
CREATE INDEX stream_keys_by_subject ON ledger.stream_keys USING btree (subject);
GRANT DELETE, INSERT, SELECT, UPDATE ON ledger.stream_keys TO ledger_api;
GRANT SELECT ON ledger.stream_keys TO ledger_projector;

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

CREATE VIEW ledger.head AS
 SELECT COALESCE(( SELECT e.notification_id
           FROM ledger.events e
          ORDER BY e.notification_id DESC
         LIMIT 1), 0::bigint) AS "position",
    COALESCE(( SELECT e.recorded_at
           FROM ledger.events e
          ORDER BY e.notification_id DESC
         LIMIT 1), '1970-01-01 00:00:00+00'::timestamp with time zone) AS recorded_at
   FROM ledger.head_lock;
GRANT SELECT, UPDATE ON ledger.head TO ledger_api;
GRANT SELECT ON ledger.head TO ledger_projector;

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
END $function$;

CREATE OR REPLACE FUNCTION ledger.append_any(appender uuid, number bigint, at double precision, erasures_seen bigint, check_command integer[], check_stream text[], check_version integer[], event_command integer[], event_stream text[], event_version integer[], event_topic text[], event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[], event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[], event_charge text[], event_payment_intent text[], reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[], reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[], reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[], key_command integer[], key_subject text[], key_wrapped bytea[], key_wrapped_by text[], OUT base bigint, OUT stale integer[], OUT taken integer[], OUT erasures bigint)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.append_any(appender uuid, number bigint, at double precision, check_command integer[], check_stream text[], check_version integer[], event_command integer[], event_stream text[], event_version integer[], event_topic text[], event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[], event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[], event_charge text[], event_payment_intent text[], reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[], reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[], reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[], OUT base bigint, OUT stale integer[], OUT taken integer[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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

CREATE OR REPLACE FUNCTION ledger.append_many(appender uuid, number bigint, at double precision, erasures_seen bigint, check_command integer[], check_stream text[], check_version integer[], event_command integer[], event_stream text[], event_version integer[], event_topic text[], event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[], event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[], event_charge text[], event_payment_intent text[], reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[], reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[], reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[], key_command integer[], key_subject text[], key_wrapped bytea[], key_wrapped_by text[], OUT base bigint, OUT stale integer[], OUT taken integer[], OUT erasures bigint)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.append_many(appender uuid, number bigint, at double precision, check_command integer[], check_stream text[], check_version integer[], event_command integer[], event_stream text[], event_version integer[], event_topic text[], event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[], event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[], event_charge text[], event_payment_intent text[], reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[], reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_compressed bytea[], reply_secret_of text[], reply_secret_at integer[], reply_request_id text[], reply_place integer[], OUT base bigint, OUT stale integer[], OUT taken integer[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.append_one(appender uuid, number bigint, at double precision, check_stream text, check_version integer, event_stream text, event_version integer, event_topic text, event_state bytea, event_account text, event_livemode boolean, event_actor text, event_request_id text, event_idempotency_key text, event_causation text, event_customer text, event_charge text, event_payment_intent text, reply_account text, reply_livemode boolean, reply_key text, reply_fingerprint text, reply_status smallint, reply_body text, reply_compressed bytea, reply_secret_of text, reply_secret_at integer, reply_request_id text, OUT base bigint, OUT stale integer[], OUT taken integer[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.append_one(appender uuid, number bigint, at double precision, erasures_seen bigint, check_stream text, check_version integer, event_stream text, event_version integer, event_topic text, event_state bytea, event_account text, event_livemode boolean, event_actor text, event_request_id text, event_idempotency_key text, event_causation text, event_customer text, event_charge text, event_payment_intent text, reply_account text, reply_livemode boolean, reply_key text, reply_fingerprint text, reply_status smallint, reply_body text, reply_compressed bytea, reply_secret_of text, reply_secret_at integer, reply_request_id text, key_subject text, key_wrapped bytea, key_wrapped_by text, OUT base bigint, OUT stale integer[], OUT taken integer[], OUT erasures bigint)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.begin_erasing(subjects text[])
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.is_active_database()
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.key_group(subject text)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN hashtextextended((CASE WHEN starts_with("right"(subject, 23), '_'::text) THEN "left"(subject, '-16'::integer) ELSE subject END COLLATE "C"), (0)::bigint);

CREATE OR REPLACE FUNCTION ledger.lock_instead_of_update()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE
    locked boolean;
    last record;
BEGIN
    SELECT true INTO STRICT locked FROM ledger.head_lock FOR UPDATE;
    SELECT h.position, h.recorded_at INTO last FROM ledger.head h;
    NEW.position := last.position + NEW.position - OLD.position;
    NEW.recorded_at := greatest(NEW.recorded_at, last.recorded_at);
    RETURN NEW;
END $function$;

CREATE OR REPLACE FUNCTION ledger.may_send_webhooks()
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
AS $function$
BEGIN
    RETURN coalesce((SELECT a.sends_webhooks FROM ledger.activations a ORDER BY a.id DESC LIMIT 1), true)
        AND ledger.is_active_database();
END $function$;

CREATE OR REPLACE FUNCTION ledger.movement_id(state bytea)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN ((convert_from(state, 'UTF8'::name))::json #>> '{movement,id}'::text[]);

CREATE OR REPLACE FUNCTION ledger.oldest_snapshots(OUT holder text, OUT seconds double precision, OUT transactions bigint)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

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
    IF EXISTS (SELECT FROM ledger.events e WHERE e.originator_id = OLD.file)
        AND NOT EXISTS (
            SELECT FROM ledger.data_keys k WHERE k.subject = OLD.file AND k.destroyed_at IS NOT NULL
            AND ledger.key_group(k.subject) = ledger.key_group(OLD.file))
    THEN
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

CREATE OR REPLACE FUNCTION ledger.start_hundred(appender uuid, number bigint, base bigint, recorded timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.this_database(OUT database_oid bigint, OUT table_oid bigint, OUT system_identifier bigint)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
AS $function$
BEGIN
    SELECT d.oid INTO database_oid FROM pg_database d WHERE d.datname = current_database();
    table_oid := 'ledger.activations'::regclass::oid;
    IF has_function_privilege('pg_control_system()', 'EXECUTE') THEN
        SELECT s.system_identifier INTO system_identifier FROM pg_control_system() s;
    END IF;
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

CREATE TABLE projections.batch_failures (
    projection text NOT NULL,
    generation integer NOT NULL,
    error text NOT NULL,
    since timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT batch_failures_key PRIMARY KEY (projection, generation),
    CONSTRAINT batch_failures_checkpoint_fkey FOREIGN KEY (projection, generation) REFERENCES projections.checkpoints(projection, generation) ON DELETE CASCADE
);
GRANT SELECT ON projections.batch_failures TO ledger_api;
GRANT DELETE, INSERT, SELECT, UPDATE ON projections.batch_failures TO ledger_projector;

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

CREATE TABLE projections.dispute_board (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    status text NOT NULL,
    due_by bigint NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    reason text NOT NULL,
    network_reason_code text,
    case_type text NOT NULL,
    charge text NOT NULL,
    customer text,
    payment_intent text,
    submission_count integer NOT NULL,
    has_evidence boolean NOT NULL,
    past_due boolean NOT NULL,
    CONSTRAINT dispute_board_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX dispute_board_due ON projections.dispute_board USING btree (generation, account, livemode, status, due_by, "position") INCLUDE (currency, amount);
CREATE INDEX dispute_board_due_by_reason ON projections.dispute_board USING btree (generation, account, livemode, status, reason, due_by, "position") INCLUDE (currency, amount);
CREATE INDEX dispute_board_newest ON projections.dispute_board USING btree (hash_record_extended(ROW(account, livemode, status), (0)::bigint), created, "position");
CREATE INDEX dispute_board_newest_by_reason ON projections.dispute_board USING btree (hash_record_extended(ROW(account, livemode, status, reason), (0)::bigint), created, "position");
ALTER TABLE projections.dispute_board OWNER TO ledger_projector;
GRANT SELECT ON projections.dispute_board TO ledger_api;

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

CREATE TABLE projections.lag_samples (
    slot smallint NOT NULL,
    at timestamp with time zone NOT NULL,
    names text[] NOT NULL,
    events bigint[] NOT NULL,
    seconds real[] NOT NULL,
    CONSTRAINT lag_samples_key PRIMARY KEY (slot),
    CONSTRAINT lag_samples_alike CHECK (cardinality(names) = cardinality(events) AND cardinality(names) = cardinality(seconds)),
    CONSTRAINT lag_samples_slot CHECK (slot >= 0 AND slot <= 8639)
) WITH (fillfactor=50);
GRANT INSERT, SELECT, UPDATE ON projections.lag_samples TO ledger_api;
GRANT SELECT ON projections.lag_samples TO ledger_projector;

CREATE TABLE projections.legal_holds (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    object_id text NOT NULL,
    active boolean NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT legal_holds_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX legal_holds_newest ON projections.legal_holds USING btree (account, livemode, created, "position");
ALTER TABLE projections.legal_holds OWNER TO ledger_projector;
GRANT SELECT ON projections.legal_holds TO ledger_api;

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

CREATE TABLE projections.redaction_jobs (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    "position" bigint NOT NULL,
    status text NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT redaction_jobs_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX redaction_jobs_active ON projections.redaction_jobs USING btree (status, created) WHERE (status = ANY (ARRAY['validating'::text, 'ready'::text, 'redacting'::text]));
CREATE INDEX redaction_jobs_newest ON projections.redaction_jobs USING btree (account, livemode, created, "position");
ALTER TABLE projections.redaction_jobs OWNER TO ledger_projector;
GRANT SELECT ON projections.redaction_jobs TO ledger_api;

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
    members bytea,
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
    thin boolean,
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

CREATE OR REPLACE FUNCTION projections.obstacles(OUT kind text, OUT projection text, OUT generation integer, OUT relation text, OUT pid integer, OUT name text, OUT state text, OUT seconds double precision)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$;

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


CREATE SCHEMA reporting;
GRANT USAGE ON SCHEMA reporting TO ledger_analyst;

CREATE TYPE reporting.movement AS (amount bigint, fee bigint, currency text, created bigint, available_on bigint);

CREATE TYPE reporting.fields AS (amount bigint, currency text, movement reporting.movement, customer text, charge text, dispute text, outcome jsonb, failure_code text, kind text, reason text, network_reason_code text, brand text, due_by bigint, past_due boolean, cause text, amount_received bigint, error jsonb, component text, expires_at bigint);

CREATE VIEW reporting.accounts AS
 SELECT id,
    name,
    platform,
    created_at
   FROM ledger.accounts a;
COMMENT ON VIEW reporting.accounts IS 'The accounts.';
COMMENT ON COLUMN reporting.accounts.id IS 'Id of the account, acct_….';
COMMENT ON COLUMN reporting.accounts.name IS 'Name that the operator gave it.';
COMMENT ON COLUMN reporting.accounts.platform IS 'Id of the account that it is connected to; null: none.';
COMMENT ON COLUMN reporting.accounts.created_at IS 'When it was created.';
GRANT SELECT ON reporting.accounts TO ledger_analyst;

CREATE VIEW reporting.api_keys AS
 SELECT id,
    account,
    livemode,
    kind,
    name,
    scopes,
    created_at,
    expires_at,
    last_used_at
   FROM ledger.api_keys k;
COMMENT ON VIEW reporting.api_keys IS 'The API keys, without anything by which one could be used. Their ids stand in other views as `api_key`.';
COMMENT ON COLUMN reporting.api_keys.id IS 'Id of the key, key_….';
COMMENT ON COLUMN reporting.api_keys.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.api_keys.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.api_keys.kind IS 'sk: secret, rk: restricted, pk: publishable.';
COMMENT ON COLUMN reporting.api_keys.name IS 'Name that was given to it when it was created.';
COMMENT ON COLUMN reporting.api_keys.scopes IS 'What a restricted key may do.';
COMMENT ON COLUMN reporting.api_keys.created_at IS 'When it was created.';
COMMENT ON COLUMN reporting.api_keys.expires_at IS 'When it stops to work; null: never.';
COMMENT ON COLUMN reporting.api_keys.last_used_at IS 'When it was last used, to within some minutes; null: never.';
GRANT SELECT ON reporting.api_keys TO ledger_analyst;

CREATE VIEW reporting.balance_transactions AS
 SELECT b.id,
    b.account,
    b.livemode,
    to_timestamp(b.created::double precision) AS created_at,
    b."position",
    b.type,
    b.source,
    b.currency,
    (s.movement).amount AS amount,
    (s.movement).fee AS fee,
    (s.movement).amount - (s.movement).fee AS net,
    to_timestamp((s.movement).available_on::double precision) AS available_at
   FROM projections.balance_transactions b
     LEFT JOIN ledger.events e ON e.notification_id = b."position"
     CROSS JOIN LATERAL reporting.read_fields(e.state) s(amount, currency, movement, customer, charge, dispute, outcome, failure_code, kind, reason, network_reason_code, brand, due_by, past_due, cause, amount_received, error, component, expires_at)
  WHERE b.generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'balance_transactions'::text));
COMMENT ON VIEW reporting.balance_transactions IS 'One row per change of an account''s balance: of a charge, refund or dispute.';
COMMENT ON COLUMN reporting.balance_transactions.id IS 'Id of the balance transaction, txn_….';
COMMENT ON COLUMN reporting.balance_transactions.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.balance_transactions.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.balance_transactions.created_at IS 'When it was made.';
COMMENT ON COLUMN reporting.balance_transactions.position IS 'Position in the log of the record that made it.';
COMMENT ON COLUMN reporting.balance_transactions.type IS 'charge, refund or adjustment (a dispute''s).';
COMMENT ON COLUMN reporting.balance_transactions.source IS 'Id of the charge, refund or dispute.';
COMMENT ON COLUMN reporting.balance_transactions.currency IS 'Three-letter ISO code in lower case: the currency of the amounts in this row.';
COMMENT ON COLUMN reporting.balance_transactions.amount IS 'Minor units before the fee; negative: out of the balance.';
COMMENT ON COLUMN reporting.balance_transactions.fee IS 'Minor units that were kept as a fee; negative: returned.';
COMMENT ON COLUMN reporting.balance_transactions.net IS 'Minor units by which the balance changed.';
COMMENT ON COLUMN reporting.balance_transactions.available_at IS 'From when on the money can be used.';
GRANT SELECT ON reporting.balance_transactions TO ledger_analyst;

CREATE VIEW reporting.changes AS
 SELECT e.notification_id AS "position",
    e.recorded_at,
    e.account,
    e.livemode,
    e.originator_id AS object,
    e.originator_version AS version,
    e.topic,
    e.actor AS api_key,
    k.name AS api_key_name,
    e.request_id,
    e.idempotency_key,
    e.causation
   FROM ledger.events e
     LEFT JOIN ledger.api_keys k ON k.id = e.actor;
COMMENT ON VIEW reporting.changes IS 'One row per record of the log: what changed, when, by whom. Bound `position` where the log is large.';
COMMENT ON COLUMN reporting.changes.position IS '1, 2, 3 … in the order of the changes, without holes.';
COMMENT ON COLUMN reporting.changes.recorded_at IS 'When it was recorded. Never decreases along the positions.';
COMMENT ON COLUMN reporting.changes.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.changes.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.changes.object IS 'Id of the changed object.';
COMMENT ON COLUMN reporting.changes.version IS '1, 2, 3 … within the object.';
COMMENT ON COLUMN reporting.changes.topic IS 'What happened: customer.updated, dispute.won ….';
COMMENT ON COLUMN reporting.changes.api_key IS 'Id of the API key that caused it; null: not the API.';
COMMENT ON COLUMN reporting.changes.api_key_name IS 'Name of that key; null: not the API.';
COMMENT ON COLUMN reporting.changes.request_id IS 'Id of the API request that caused it; null: none.';
COMMENT ON COLUMN reporting.changes.idempotency_key IS 'Idempotency key of that request; null: none.';
COMMENT ON COLUMN reporting.changes.causation IS 'What else caused it: network:…, clock; null: nothing else.';
GRANT SELECT ON reporting.changes TO ledger_analyst;

CREATE VIEW reporting.charges AS
 SELECT c.id,
    c.account,
    c.livemode,
    to_timestamp(c.created::double precision) AS created_at,
    c.customer,
    c.payment_intent,
    c.transfer_group,
    f.currency,
    f.amount,
    f.status,
    f.captured,
    f.captured_at,
    f.amount_captured,
    f.amount_refunded,
    f.fee,
    f.disputes,
    f.ended_by,
    f.failure_code,
    f.risk_level
   FROM projections.charges c
     CROSS JOIN LATERAL ( SELECT max(s.currency) FILTER (WHERE e.originator_version = 1) AS currency,
            max(s.amount) FILTER (WHERE e.originator_version = 1) AS amount,
                CASE
                    WHEN bool_or(e.topic = 'charge.failed'::text) THEN 'failed'::text
                    ELSE 'succeeded'::text
                END AS status,
            bool_or((s.movement).amount > 0) IS TRUE AS captured,
            to_timestamp(min((s.movement).created) FILTER (WHERE (s.movement).amount > 0)::double precision) AS captured_at,
            COALESCE(sum((s.movement).amount) FILTER (WHERE e.topic <> 'charge.refunded'::text), 0::numeric)::bigint AS amount_captured,
            COALESCE(- sum((s.movement).amount) FILTER (WHERE e.topic = 'charge.refunded'::text), 0::numeric)::bigint AS amount_refunded,
            COALESCE(sum((s.movement).fee), 0::numeric)::bigint AS fee,
            count(DISTINCT s.dispute) AS disputes,
                CASE
                    WHEN bool_or(e.topic = 'charge.expired'::text) THEN 'expired'::text
                    WHEN bool_or(e.topic = 'charge.released'::text) THEN 'released'::text
                    ELSE NULL::text
                END AS ended_by,
            max(s.failure_code) AS failure_code,
            max(s.outcome ->> 'risk_level'::text) AS risk_level
           FROM ledger.events e
             CROSS JOIN LATERAL reporting.read_fields(e.state) s(amount, currency, movement, customer, charge, dispute, outcome, failure_code, kind, reason, network_reason_code, brand, due_by, past_due, cause, amount_received, error, component, expires_at)
          WHERE e.originator_id = c.id) f
  WHERE c.generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'charges'::text));
COMMENT ON VIEW reporting.charges IS 'One row per charge, declined ones too. Brand and country of its card are sealed with the card.';
COMMENT ON COLUMN reporting.charges.id IS 'Id of the charge, ch_….';
COMMENT ON COLUMN reporting.charges.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.charges.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.charges.created_at IS 'When it was created, perhaps in another system.';
COMMENT ON COLUMN reporting.charges.customer IS 'Id of its customer; null: none.';
COMMENT ON COLUMN reporting.charges.payment_intent IS 'Id of its payment intent; null: none.';
COMMENT ON COLUMN reporting.charges.transfer_group IS 'The group that the caller named.';
COMMENT ON COLUMN reporting.charges.currency IS 'Three-letter ISO code in lower case: the currency of the amounts in this row.';
COMMENT ON COLUMN reporting.charges.amount IS 'Minor units that were to be charged.';
COMMENT ON COLUMN reporting.charges.status IS 'succeeded (paid or authorized) or failed (declined).';
COMMENT ON COLUMN reporting.charges.captured IS 'Whether money was taken. An authorized charge is not captured yet, or never.';
COMMENT ON COLUMN reporting.charges.captured_at IS 'When it was captured; null: not.';
COMMENT ON COLUMN reporting.charges.amount_captured IS 'Minor units that were taken; 0 before the capture.';
COMMENT ON COLUMN reporting.charges.amount_refunded IS 'Minor units of it that refunds have returned. Of an authorization that expired, 0: the API shows its amount there.';
COMMENT ON COLUMN reporting.charges.fee IS 'Processing fee in minor units, kept also when it is refunded.';
COMMENT ON COLUMN reporting.charges.disputes IS 'How many disputes it has had, whatever became of them.';
COMMENT ON COLUMN reporting.charges.ended_by IS 'Why an authorization can no longer be captured: expired, released (its payment intent was canceled); null: neither.';
COMMENT ON COLUMN reporting.charges.failure_code IS 'Why it was declined, as the API''s code; null: it was not.';
COMMENT ON COLUMN reporting.charges.risk_level IS 'The risk that the API shows: normal, elevated, highest ….';
GRANT SELECT ON reporting.charges TO ledger_analyst;

CREATE VIEW reporting.customer_sessions AS
 SELECT e.originator_id AS id,
    e.account,
    e.livemode,
    e.recorded_at AS created_at,
    e.notification_id AS "position",
    s.customer,
    s.component,
    to_timestamp(s.expires_at::double precision) AS expires_at,
    later.claimed_at,
    later.revoked_at
   FROM ledger.events e
     CROSS JOIN LATERAL reporting.read_fields(e.state) s(amount, currency, movement, customer, charge, dispute, outcome, failure_code, kind, reason, network_reason_code, brand, due_by, past_due, cause, amount_received, error, component, expires_at)
     CROSS JOIN LATERAL ( SELECT max(o.recorded_at) FILTER (WHERE o.topic = 'customer_session.claimed'::text) AS claimed_at,
            max(o.recorded_at) FILTER (WHERE o.topic = 'customer_session.revoked'::text) AS revoked_at
           FROM ledger.events o
          WHERE o.originator_id = e.originator_id) later
  WHERE e.topic = 'customer_session.created'::text;
COMMENT ON VIEW reporting.customer_sessions IS 'One row per customer session, from the log alone: bound `position` where the log is large.';
COMMENT ON COLUMN reporting.customer_sessions.id IS 'Id of the session, cuss_….';
COMMENT ON COLUMN reporting.customer_sessions.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.customer_sessions.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.customer_sessions.created_at IS 'When it was created.';
COMMENT ON COLUMN reporting.customer_sessions.position IS 'Position in the log of the record that created it.';
COMMENT ON COLUMN reporting.customer_sessions.customer IS 'Id of the customer.';
COMMENT ON COLUMN reporting.customer_sessions.component IS 'The component that it enables.';
COMMENT ON COLUMN reporting.customer_sessions.expires_at IS 'When its client secret stops to work.';
COMMENT ON COLUMN reporting.customer_sessions.claimed_at IS 'When a front end exchanged the client secret; null: not.';
COMMENT ON COLUMN reporting.customer_sessions.revoked_at IS 'When it was withdrawn; null: not.';
GRANT SELECT ON reporting.customer_sessions TO ledger_analyst;

CREATE VIEW reporting.customers AS
 SELECT id,
    account,
    livemode,
    to_timestamp(created::double precision) AS created_at,
    deleted
   FROM projections.customers c
  WHERE generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'customers'::text));
COMMENT ON VIEW reporting.customers IS 'One row per customer, deleted ones too. Names, addresses and the like are personal data and not here.';
COMMENT ON COLUMN reporting.customers.id IS 'Id of the customer, cus_….';
COMMENT ON COLUMN reporting.customers.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.customers.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.customers.created_at IS 'When it was created, perhaps in another system.';
COMMENT ON COLUMN reporting.customers.deleted IS 'Whether it was deleted.';
GRANT SELECT ON reporting.customers TO ledger_analyst;

CREATE VIEW reporting.dispute_history AS
 SELECT d.id AS dispute,
    d.account,
    d.livemode,
    h.version,
    h."position",
    h.recorded_at,
    h.topic,
    max(h.status) OVER (PARTITION BY d.id, h.step) AS status,
    h.currency,
    h.amount,
    h.fee,
    h.api_key,
    h.request_id,
    h.causation
   FROM projections.disputes d
     CROSS JOIN LATERAL ( SELECT g.version,
            g."position",
            g.recorded_at,
            g.topic,
            g.currency,
            g.amount,
            g.fee,
            g.api_key,
            g.request_id,
            g.causation,
            g.status,
            count(g.status) OVER (ORDER BY g.version) AS step
           FROM ( SELECT e.originator_version AS version,
                    e.notification_id AS "position",
                    e.recorded_at,
                    e.topic,
                    (s.movement).currency AS currency,
                    (s.movement).amount AS amount,
                    (s.movement).fee AS fee,
                    e.actor AS api_key,
                    e.request_id,
                    e.causation,
                    reporting.dispute_status(e.topic, s.kind, max(
                        CASE
                            WHEN e.topic = 'dispute.appeal_opened'::text THEN 3
                            WHEN s.kind = 'inquiry'::text THEN 1
                            WHEN e.topic = ANY (ARRAY['dispute.opened'::text, 'dispute.inquiry_escalated'::text]) THEN 2
                            ELSE NULL::integer
                        END) OVER (ORDER BY e.originator_version)) AS status
                   FROM ledger.events e
                     CROSS JOIN LATERAL reporting.read_fields(e.state) s(amount, currency, movement, customer, charge, dispute, outcome, failure_code, kind, reason, network_reason_code, brand, due_by, past_due, cause, amount_received, error, component, expires_at)
                  WHERE e.originator_id = d.id) g) h
  WHERE d.generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'disputes'::text));
COMMENT ON VIEW reporting.dispute_history IS 'One row per record of a dispute: how the dispute was from then on until the next.';
COMMENT ON COLUMN reporting.dispute_history.dispute IS 'Id of the dispute, du_….';
COMMENT ON COLUMN reporting.dispute_history.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.dispute_history.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.dispute_history.version IS '1, 2, 3 … within the dispute.';
COMMENT ON COLUMN reporting.dispute_history.position IS 'Position of the record in the log.';
COMMENT ON COLUMN reporting.dispute_history.recorded_at IS 'When it was recorded.';
COMMENT ON COLUMN reporting.dispute_history.topic IS 'What happened: dispute.opened, dispute.evidence_submitted, dispute.won ….';
COMMENT ON COLUMN reporting.dispute_history.status IS 'Status of the dispute from then on.';
COMMENT ON COLUMN reporting.dispute_history.currency IS 'Three-letter ISO code in lower case: the currency of the amounts in this row.';
COMMENT ON COLUMN reporting.dispute_history.amount IS 'Minor units that this moved into the balance, negative: out of it; null: none.';
COMMENT ON COLUMN reporting.dispute_history.fee IS 'Minor units of the fee that came with it, negative: returned; null: none.';
COMMENT ON COLUMN reporting.dispute_history.api_key IS 'Id of the API key that caused it; null: not the API.';
COMMENT ON COLUMN reporting.dispute_history.request_id IS 'Id of the API request that caused it; null: none.';
COMMENT ON COLUMN reporting.dispute_history.causation IS 'What else caused it: network:…, clock; null: nothing else.';
GRANT SELECT ON reporting.dispute_history TO ledger_analyst;

CREATE VIEW reporting.disputes AS
 SELECT d.id,
    d.account,
    d.livemode,
    to_timestamp(d.created::double precision) AS opened_at,
    f.reported_at,
    d.charge,
    d.payment_intent,
    f.customer,
    f.kind,
    f.reason,
    f.network_reason_code,
    f.card_brand,
    f.currency,
    f.amount,
    reporting.dispute_status(f.last_topic, f.kind, f.round) AS status,
    (f.last_topic <> ALL (ARRAY['dispute.won'::text, 'dispute.lost'::text, 'dispute.conceded'::text, 'dispute.inquiry_closed'::text])) AND f.kind <> 'prevented'::text AS open,
        CASE
            WHEN f.decisions IS NULL THEN NULL::text
            WHEN f.last_topic = 'dispute.won'::text THEN 'won'::text
            ELSE 'lost'::text
        END AS outcome,
    f.decided_at,
    f.decided_by,
    to_timestamp(NULLIF(f.due_by, 0)::double precision) AS evidence_due_at,
    f.evidence_submitted_at,
    f.submissions,
    f.past_due,
    f.amount_withdrawn,
    f.fee
   FROM projections.disputes d
     CROSS JOIN LATERAL ( SELECT min(e.recorded_at) AS reported_at,
            max(s.customer) AS customer,
            max(s.kind) AS kind,
            max(s.reason) AS reason,
            max(s.network_reason_code) AS network_reason_code,
            max(s.brand) AS card_brand,
            max(s.currency) AS currency,
            COALESCE(max(- (s.movement).amount) FILTER (WHERE e.topic = 'dispute.inquiry_escalated'::text), max(s.amount)) AS amount,
            max(
                CASE
                    WHEN e.topic = 'dispute.appeal_opened'::text THEN 3
                    WHEN s.kind = 'inquiry'::text THEN 1
                    WHEN e.topic = ANY (ARRAY['dispute.opened'::text, 'dispute.inquiry_escalated'::text]) THEN 2
                    ELSE NULL::integer
                END) AS round,
            (array_agg(e.topic ORDER BY e.originator_version DESC) FILTER (WHERE e.topic <> ALL (ARRAY['dispute.updated'::text, 'dispute.evidence_staged'::text])))[1] AS last_topic,
            max(e.originator_version) FILTER (WHERE e.topic = ANY (ARRAY['dispute.won'::text, 'dispute.lost'::text, 'dispute.conceded'::text])) AS decisions,
            (array_agg(COALESCE(to_timestamp((s.movement).created::double precision), e.recorded_at) ORDER BY e.originator_version DESC) FILTER (WHERE e.topic = ANY (ARRAY['dispute.won'::text, 'dispute.lost'::text, 'dispute.conceded'::text, 'dispute.inquiry_closed'::text])))[1] AS decided_at,
            (array_agg(
                CASE e.topic
                    WHEN 'dispute.won'::text THEN 'network'::text
                    WHEN 'dispute.conceded'::text THEN 'merchant'::text
                    ELSE s.cause
                END ORDER BY e.originator_version DESC) FILTER (WHERE e.topic = ANY (ARRAY['dispute.won'::text, 'dispute.lost'::text, 'dispute.conceded'::text, 'dispute.inquiry_closed'::text])))[1] AS decided_by,
            (array_agg(s.due_by ORDER BY e.originator_version DESC) FILTER (WHERE s.due_by IS NOT NULL))[1] AS due_by,
            min(e.recorded_at) FILTER (WHERE e.topic = 'dispute.evidence_submitted'::text) AS evidence_submitted_at,
            count(*) FILTER (WHERE e.topic = 'dispute.evidence_submitted'::text) AS submissions,
            (array_agg(s.past_due ORDER BY e.originator_version DESC) FILTER (WHERE s.past_due IS NOT NULL))[1] AS past_due,
            COALESCE(- sum((s.movement).amount), 0::numeric)::bigint AS amount_withdrawn,
            COALESCE(sum((s.movement).fee), 0::numeric)::bigint AS fee
           FROM ledger.events e
             CROSS JOIN LATERAL reporting.read_fields(e.state) s(amount, currency, movement, customer, charge, dispute, outcome, failure_code, kind, reason, network_reason_code, brand, due_by, past_due, cause, amount_received, error, component, expires_at)
          WHERE e.originator_id = d.id) f
  WHERE d.generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'disputes'::text));
COMMENT ON VIEW reporting.disputes IS 'One row per dispute, inquiries too.';
COMMENT ON COLUMN reporting.disputes.id IS 'Id of the dispute, du_….';
COMMENT ON COLUMN reporting.disputes.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.disputes.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.disputes.opened_at IS 'When the network opened it.';
COMMENT ON COLUMN reporting.disputes.reported_at IS 'When it was recorded: later than `opened_at` if it was reported late, or imported.';
COMMENT ON COLUMN reporting.disputes.charge IS 'Id of the disputed charge.';
COMMENT ON COLUMN reporting.disputes.payment_intent IS 'Id of the charge''s payment intent; null: none.';
COMMENT ON COLUMN reporting.disputes.customer IS 'Id of the charge''s customer when it was opened; null: none.';
COMMENT ON COLUMN reporting.disputes.kind IS 'How it began: chargeback, inquiry, compliance or prevented.';
COMMENT ON COLUMN reporting.disputes.reason IS 'Its category: fraudulent, product_not_received ….';
COMMENT ON COLUMN reporting.disputes.network_reason_code IS 'The network''s code of the reason.';
COMMENT ON COLUMN reporting.disputes.card_brand IS 'Brand of the card: visa ….';
COMMENT ON COLUMN reporting.disputes.currency IS 'Three-letter ISO code in lower case: the currency of the amounts in this row.';
COMMENT ON COLUMN reporting.disputes.amount IS 'Disputed minor units; of an escalated inquiry, those of the chargeback.';
COMMENT ON COLUMN reporting.disputes.status IS 'As in the API: needs_response ….';
COMMENT ON COLUMN reporting.disputes.open IS 'Whether it still awaits the merchant or a decision.';
COMMENT ON COLUMN reporting.disputes.outcome IS 'won or lost, also while it is appealed; null: neither yet, or closed as an inquiry.';
COMMENT ON COLUMN reporting.disputes.decided_at IS 'When it was last won, lost or closed; if that moved no money, when it was recorded. Null: not yet.';
COMMENT ON COLUMN reporting.disputes.decided_by IS 'Who decided that: network, merchant (conceded or closed), deadline, refunded.';
COMMENT ON COLUMN reporting.disputes.evidence_due_at IS 'Last second for evidence; null: none.';
COMMENT ON COLUMN reporting.disputes.evidence_submitted_at IS 'When evidence was first submitted; null: never.';
COMMENT ON COLUMN reporting.disputes.submissions IS 'How many times evidence was submitted.';
COMMENT ON COLUMN reporting.disputes.past_due IS 'Whether the last submission was after `evidence_due_at`; null: there was none.';
COMMENT ON COLUMN reporting.disputes.amount_withdrawn IS 'Minor units that the dispute has taken from the balance and not returned.';
COMMENT ON COLUMN reporting.disputes.fee IS 'Dispute fees in minor units, less those that were returned.';
GRANT SELECT ON reporting.disputes TO ledger_analyst;

CREATE VIEW reporting.events AS
 SELECT id,
    account,
    livemode,
    to_timestamp(created::double precision) AS created_at,
    "position",
    type,
    object_id AS object,
    request_id,
    idempotency_key
   FROM projections.feed f
  WHERE generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'feed'::text));
COMMENT ON VIEW reporting.events IS 'One row per public Event of the last 30 days, without its data. What is older is in `changes`.';
COMMENT ON COLUMN reporting.events.id IS 'Id of the Event, evt_….';
COMMENT ON COLUMN reporting.events.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.events.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.events.created_at IS 'When it was recorded, in whole seconds.';
COMMENT ON COLUMN reporting.events.position IS 'Position in the log of the record that it shows; that has the API key.';
COMMENT ON COLUMN reporting.events.type IS 'Type of the Event: charge.dispute.created ….';
COMMENT ON COLUMN reporting.events.object IS 'Id of the object that it is about; empty: the object has none.';
COMMENT ON COLUMN reporting.events.request_id IS 'Id of the API request that caused it; null: none.';
COMMENT ON COLUMN reporting.events.idempotency_key IS 'Idempotency key of that request; null: none.';
GRANT SELECT ON reporting.events TO ledger_analyst;

CREATE VIEW reporting.freshness AS
 SELECT c.projection,
    c."position",
    c.recorded_at,
    h."position" - c."position" AS events_behind,
    EXTRACT(epoch FROM GREATEST(h.recorded_at - c.recorded_at, '00:00:00'::interval))::double precision AS seconds_behind,
    ( SELECT count(*) AS count
           FROM projections.parked p
          WHERE p.projection = c.projection AND p.generation = c.generation) AS parked_streams
   FROM ledger.head h
     CROSS JOIN ( SELECT 'log'::text AS projection,
            0 AS generation,
            i."position",
            i.recorded_at
           FROM ledger.head i
        UNION ALL
         SELECT k.projection,
            k.generation,
            k."position",
            k.recorded_at
           FROM projections.live l
             JOIN projections.checkpoints k ON k.projection = l.projection AND k.generation = l.generation
          WHERE l.projection = ANY (ARRAY['customers'::text, 'charges'::text, 'refunds'::text, 'disputes'::text, 'payment_intents'::text, 'postings'::text, 'balance_transactions'::text, 'feed'::text, 'resources'::text, 'webhook_endpoints'::text])) c;
COMMENT ON VIEW reporting.freshness IS 'How fresh the figures are: one row per source, `log` and the projections that the other views read.';
COMMENT ON COLUMN reporting.freshness.projection IS 'Name of the projection; views of the same name read it, and `events` reads `feed`.';
COMMENT ON COLUMN reporting.freshness.position IS 'Position in the log up to which it is complete.';
COMMENT ON COLUMN reporting.freshness.recorded_at IS 'When the record at that position was recorded.';
COMMENT ON COLUMN reporting.freshness.events_behind IS 'Records of the log that it lacks; 0: it is complete.';
COMMENT ON COLUMN reporting.freshness.seconds_behind IS 'Time between its last record and the newest one.';
COMMENT ON COLUMN reporting.freshness.parked_streams IS 'Objects that it does not keep up to date, because of an error.';
GRANT SELECT ON reporting.freshness TO ledger_analyst;

CREATE VIEW reporting.payment_intents AS
 SELECT p.id,
    p.account,
    p.livemode,
    to_timestamp(p.created::double precision) AS created_at,
    p.customer,
    p.published,
    p.deleted,
        CASE
            WHEN NOT p.published THEN
            CASE f.last_topic
                WHEN 'payment_intent.succeeded'::text THEN 'succeeded'::text
                WHEN 'payment_intent.canceled'::text THEN 'canceled'::text
                WHEN 'payment_intent.authorized'::text THEN 'requires_capture'::text
                ELSE 'open'::text
            END
            ELSE NULL::text
        END AS status,
    COALESCE(c.currency, f.currency) AS currency,
    COALESCE(c.amount, f.amount) AS amount,
    f.amount_received,
    f.latest_charge,
    f.failures,
    f.last_failure_code,
    f.succeeded_at,
    f.canceled_at,
    f.cancellation_reason
   FROM projections.payment_intents p
     CROSS JOIN LATERAL ( SELECT max(s.currency) AS currency,
            max(s.amount) AS amount,
            max(s.amount_received) AS amount_received,
            (array_agg(e.topic ORDER BY e.originator_version DESC) FILTER (WHERE e.topic = ANY (ARRAY['payment_intent.succeeded'::text, 'payment_intent.canceled'::text, 'payment_intent.authorized'::text])))[1] AS last_topic,
            (array_agg(COALESCE(s.charge, s.error ->> 'charge'::text) ORDER BY e.originator_version DESC) FILTER (WHERE s.charge IS NOT NULL OR s.error IS NOT NULL))[1] AS latest_charge,
            count(s.error) AS failures,
            (array_agg(s.error ->> 'code'::text ORDER BY e.originator_version DESC) FILTER (WHERE s.error IS NOT NULL))[1] AS last_failure_code,
            max(e.recorded_at) FILTER (WHERE e.topic = 'payment_intent.succeeded'::text) AS succeeded_at,
            max(e.recorded_at) FILTER (WHERE e.topic = 'payment_intent.canceled'::text) AS canceled_at,
            max(s.reason) AS cancellation_reason
           FROM ledger.events e
             CROSS JOIN LATERAL reporting.read_fields(e.state) s(amount, currency, movement, customer, charge, dispute, outcome, failure_code, kind, reason, network_reason_code, brand, due_by, past_due, cause, amount_received, error, component, expires_at)
          WHERE e.originator_id = p.id) f
     LEFT JOIN LATERAL ( SELECT s.currency,
            s.amount
           FROM ledger.events e
             CROSS JOIN LATERAL reporting.read_fields(e.state) s(amount, currency, movement, customer, charge, dispute, outcome, failure_code, kind, reason, network_reason_code, brand, due_by, past_due, cause, amount_received, error, component, expires_at)
          WHERE e.originator_id = f.latest_charge AND e.originator_version = 1) c ON true
  WHERE p.generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'payment_intents'::text));
COMMENT ON VIEW reporting.payment_intents IS 'One row per payment intent, also of those that other services publish.';
COMMENT ON COLUMN reporting.payment_intents.id IS 'Id of the payment intent, pi_….';
COMMENT ON COLUMN reporting.payment_intents.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.payment_intents.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.payment_intents.created_at IS 'When it was created.';
COMMENT ON COLUMN reporting.payment_intents.customer IS 'Id of its customer; null: none.';
COMMENT ON COLUMN reporting.payment_intents.published IS 'Whether another service keeps it: then the columns after `deleted` are not known.';
COMMENT ON COLUMN reporting.payment_intents.deleted IS 'Whether the service that keeps it deleted it.';
COMMENT ON COLUMN reporting.payment_intents.status IS 'succeeded, canceled, requires_capture; or open, which the API shows as requires_payment_method or requires_confirmation: they differ by the card, which is sealed.';
COMMENT ON COLUMN reporting.payment_intents.currency IS 'Of the newest charge; without one, of the creation.';
COMMENT ON COLUMN reporting.payment_intents.amount IS 'Minor units of the newest charge; without one, those of the creation: a change that was not charged yet is sealed.';
COMMENT ON COLUMN reporting.payment_intents.amount_received IS 'Minor units that were captured; null: none.';
COMMENT ON COLUMN reporting.payment_intents.latest_charge IS 'Id of the newest charge, perhaps a failed one; null: none.';
COMMENT ON COLUMN reporting.payment_intents.failures IS 'How many confirmations were declined.';
COMMENT ON COLUMN reporting.payment_intents.last_failure_code IS 'Code of the last one; null: none.';
COMMENT ON COLUMN reporting.payment_intents.succeeded_at IS 'When the amount was captured; null: not.';
COMMENT ON COLUMN reporting.payment_intents.canceled_at IS 'When it was canceled; null: not.';
COMMENT ON COLUMN reporting.payment_intents.cancellation_reason IS 'Why: the caller''s reason, or expired; null: none given.';
GRANT SELECT ON reporting.payment_intents TO ledger_analyst;

CREATE VIEW reporting.postings AS
 SELECT id,
    account,
    livemode,
    to_timestamp(created::double precision) AS created_at,
    "position",
    transaction,
    source,
    ledger_account,
    currency,
    amount
   FROM projections.postings p
  WHERE generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'postings'::text));
COMMENT ON VIEW reporting.postings IS 'One row per posting: one side of an entry of the double-entry journal. The postings of a transaction sum to zero in each currency.';
COMMENT ON COLUMN reporting.postings.id IS 'Id of the posting: that of the transaction and a number.';
COMMENT ON COLUMN reporting.postings.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.postings.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.postings.created_at IS 'When the transaction was made.';
COMMENT ON COLUMN reporting.postings.position IS 'Position in the log of the record that made it.';
COMMENT ON COLUMN reporting.postings.transaction IS 'Id of the balance transaction.';
COMMENT ON COLUMN reporting.postings.source IS 'Id of the charge, refund or dispute.';
COMMENT ON COLUMN reporting.postings.ledger_account IS 'network, merchant_balance, processing_fees or dispute_fees.';
COMMENT ON COLUMN reporting.postings.currency IS 'Three-letter ISO code in lower case: the currency of the amounts in this row.';
COMMENT ON COLUMN reporting.postings.amount IS 'Minor units: positive is a debit, negative a credit.';
GRANT SELECT ON reporting.postings TO ledger_analyst;

CREATE VIEW reporting.readable_events AS
 SELECT notification_id AS "position",
    originator_id AS stream,
    originator_version AS version,
    topic,
    reporting.read_state(state) AS state,
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
   FROM ledger.events e;
COMMENT ON VIEW reporting.readable_events IS 'One row per record of the log, with its content as JSON, without what is personal. Bound `position` where the log is large.';
COMMENT ON COLUMN reporting.readable_events.position IS '1, 2, 3 … in the order of the changes, without holes.';
COMMENT ON COLUMN reporting.readable_events.stream IS 'Id of the changed object.';
COMMENT ON COLUMN reporting.readable_events.version IS '1, 2, 3 … within the object.';
COMMENT ON COLUMN reporting.readable_events.topic IS 'What happened: customer.updated, dispute.won ….';
COMMENT ON COLUMN reporting.readable_events.state IS 'The fields of the event as JSON; null: the record is damaged.';
COMMENT ON COLUMN reporting.readable_events.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.readable_events.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.readable_events.actor IS 'Id of the API key that caused it; null: not the API.';
COMMENT ON COLUMN reporting.readable_events.request_id IS 'Id of the API request that caused it; null: none.';
COMMENT ON COLUMN reporting.readable_events.idempotency_key IS 'Idempotency key of that request; null: none.';
COMMENT ON COLUMN reporting.readable_events.causation IS 'What else caused it: network:…, clock; null: nothing else.';
COMMENT ON COLUMN reporting.readable_events.customer IS 'Id of the customer that it refers to; null: none.';
COMMENT ON COLUMN reporting.readable_events.charge IS 'Id of the charge that it refers to; null: none.';
COMMENT ON COLUMN reporting.readable_events.payment_intent IS 'Id of the payment intent that it refers to; null: none.';
COMMENT ON COLUMN reporting.readable_events.recorded_at IS 'When it was recorded. Never decreases along the positions.';
GRANT SELECT ON reporting.readable_events TO ledger_analyst;

CREATE VIEW reporting.refunds AS
 SELECT r.id,
    r.account,
    r.livemode,
    to_timestamp(r.created::double precision) AS created_at,
    r.charge,
    r.payment_intent,
    s.customer,
    s.currency,
    s.amount,
    s.reason
   FROM projections.refunds r
     LEFT JOIN ledger.events e ON e.originator_id = r.id AND e.originator_version = 1
     CROSS JOIN LATERAL reporting.read_fields(e.state) s(amount, currency, movement, customer, charge, dispute, outcome, failure_code, kind, reason, network_reason_code, brand, due_by, past_due, cause, amount_received, error, component, expires_at)
  WHERE r.generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'refunds'::text));
COMMENT ON VIEW reporting.refunds IS 'One row per refund. All succeed at once.';
COMMENT ON COLUMN reporting.refunds.id IS 'Id of the refund, re_….';
COMMENT ON COLUMN reporting.refunds.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.refunds.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.refunds.created_at IS 'When it was made, perhaps in another system.';
COMMENT ON COLUMN reporting.refunds.charge IS 'Id of the refunded charge.';
COMMENT ON COLUMN reporting.refunds.payment_intent IS 'Id of the charge''s payment intent; null: none.';
COMMENT ON COLUMN reporting.refunds.customer IS 'Id of the customer; null: none.';
COMMENT ON COLUMN reporting.refunds.currency IS 'Three-letter ISO code in lower case: the currency of the amounts in this row.';
COMMENT ON COLUMN reporting.refunds.amount IS 'Minor units that were returned.';
COMMENT ON COLUMN reporting.refunds.reason IS 'duplicate, fraudulent, requested_by_customer; null: none given.';
GRANT SELECT ON reporting.refunds TO ledger_analyst;

CREATE VIEW reporting.resources AS
 SELECT id,
    account,
    livemode,
    type,
    to_timestamp(created::double precision) AS created_at,
    customer,
    subscription,
    status,
    deleted
   FROM projections.resources r
  WHERE generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'resources'::text));
COMMENT ON VIEW reporting.resources IS 'One row per object that another service publishes, without its content.';
COMMENT ON COLUMN reporting.resources.id IS 'Id of the object, as its service names it.';
COMMENT ON COLUMN reporting.resources.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.resources.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.resources.type IS 'Type of the object: invoice ….';
COMMENT ON COLUMN reporting.resources.created_at IS 'When it was created, as its service says; else first published.';
COMMENT ON COLUMN reporting.resources.customer IS 'Id of the customer that it names; null: none.';
COMMENT ON COLUMN reporting.resources.subscription IS 'Id of the subscription that it names; null: none.';
COMMENT ON COLUMN reporting.resources.status IS 'Its status, if it has one.';
COMMENT ON COLUMN reporting.resources.deleted IS 'Whether its service deleted it.';
GRANT SELECT ON reporting.resources TO ledger_analyst;

CREATE VIEW reporting.webhook_attempts AS
 SELECT delivery,
    number,
    at,
    duration_ms,
    status,
    error,
    COALESCE(status >= 200 AND status <= 299, false) AS succeeded
   FROM webhooks.attempts t
  WHERE NOT (EXISTS ( SELECT
           FROM webhooks.deliveries d
          WHERE d.id = t.delivery AND d.state = 'forwarded'::text));
COMMENT ON VIEW reporting.webhook_attempts IS 'One row per attempt to deliver an Event.';
COMMENT ON COLUMN reporting.webhook_attempts.delivery IS 'Id of the delivery.';
COMMENT ON COLUMN reporting.webhook_attempts.number IS '1, 2, 3 … within the delivery.';
COMMENT ON COLUMN reporting.webhook_attempts.at IS 'When it was made.';
COMMENT ON COLUMN reporting.webhook_attempts.duration_ms IS 'How many milliseconds it took.';
COMMENT ON COLUMN reporting.webhook_attempts.status IS 'HTTP status of the answer; null: there was no answer.';
COMMENT ON COLUMN reporting.webhook_attempts.error IS 'Why there was no answer, as a code; null: there was one.';
COMMENT ON COLUMN reporting.webhook_attempts.succeeded IS 'Whether it was delivered by this attempt.';
GRANT SELECT ON reporting.webhook_attempts TO ledger_analyst;

CREATE VIEW reporting.webhook_deliveries AS
 SELECT d.id,
    d.event,
    d.type,
    d.endpoint,
    d.account,
    d.livemode,
    to_timestamp(d.created::double precision) AS created_at,
    d.state,
    d.tries AS attempts,
    a.last_attempt_at,
        CASE
            WHEN d.state = 'pending'::text THEN NULLIF(d.due_at, 'infinity'::timestamp with time zone)
            ELSE NULL::timestamp with time zone
        END AS due_at
   FROM webhooks.deliveries d
     CROSS JOIN LATERAL ( SELECT max(t.at) AS last_attempt_at
           FROM webhooks.attempts t
          WHERE t.delivery = d.id) a
  WHERE d.state <> 'forwarded'::text;
COMMENT ON VIEW reporting.webhook_deliveries IS 'One row per delivery: an Event that was owed to an endpoint in the last 30 days.';
COMMENT ON COLUMN reporting.webhook_deliveries.id IS 'Id of the delivery.';
COMMENT ON COLUMN reporting.webhook_deliveries.event IS 'Id of the Event, evt_….';
COMMENT ON COLUMN reporting.webhook_deliveries.type IS 'Type of the Event.';
COMMENT ON COLUMN reporting.webhook_deliveries.endpoint IS 'Id of the endpoint, we_….';
COMMENT ON COLUMN reporting.webhook_deliveries.account IS 'Id of the account whose Event it is.';
COMMENT ON COLUMN reporting.webhook_deliveries.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.webhook_deliveries.created_at IS 'When the Event was recorded.';
COMMENT ON COLUMN reporting.webhook_deliveries.state IS 'pending, delivered, failed (given up) or dropped (nobody is owed it any more).';
COMMENT ON COLUMN reporting.webhook_deliveries.attempts IS 'How many attempts were due: one that was due while the endpoint was disabled was not made.';
COMMENT ON COLUMN reporting.webhook_deliveries.last_attempt_at IS 'When the last one was made; null: none.';
COMMENT ON COLUMN reporting.webhook_deliveries.due_at IS 'When the next one is due; null: none is, or it waits for an earlier Event of the object.';
GRANT SELECT ON reporting.webhook_deliveries TO ledger_analyst;

CREATE VIEW reporting.webhook_endpoints AS
 SELECT id,
    account,
    livemode,
    to_timestamp(created::double precision) AS created_at,
    deleted,
        CASE
            WHEN thin THEN 'thin'::text
            ELSE 'snapshot'::text
        END AS event_payload
   FROM projections.webhook_endpoints w
  WHERE generation = (( SELECT l.generation
           FROM projections.live l
          WHERE l.projection = 'webhook_endpoints'::text));
COMMENT ON VIEW reporting.webhook_endpoints IS 'One row per webhook endpoint, deleted ones too, without its URL.';
COMMENT ON COLUMN reporting.webhook_endpoints.id IS 'Id of the endpoint, we_…; ed_… if it gets thin events.';
COMMENT ON COLUMN reporting.webhook_endpoints.account IS 'Id of the account that owns it.';
COMMENT ON COLUMN reporting.webhook_endpoints.livemode IS 'True: live mode; false: test mode.';
COMMENT ON COLUMN reporting.webhook_endpoints.created_at IS 'When it was created.';
COMMENT ON COLUMN reporting.webhook_endpoints.deleted IS 'Whether it was deleted.';
COMMENT ON COLUMN reporting.webhook_endpoints.event_payload IS 'What it is sent: snapshot or thin events.';
GRANT SELECT ON reporting.webhook_endpoints TO ledger_analyst;

CREATE OR REPLACE FUNCTION reporting.dispute_status(topic text, kind text, round integer)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE topic WHEN 'dispute.opened'::text THEN CASE kind WHEN 'inquiry'::text THEN 'warning_needs_response'::text WHEN 'prevented'::text THEN 'prevented'::text ELSE 'needs_response'::text END WHEN 'dispute.evidence_submitted'::text THEN CASE round WHEN 1 THEN 'warning_under_review'::text WHEN 2 THEN 'under_review'::text WHEN 3 THEN 'appeal_under_review'::text ELSE NULL::text END WHEN 'dispute.inquiry_escalated'::text THEN 'needs_response'::text WHEN 'dispute.inquiry_closed'::text THEN 'warning_closed'::text WHEN 'dispute.appeal_opened'::text THEN 'appeal_needs_response'::text WHEN 'dispute.won'::text THEN 'won'::text WHEN 'dispute.lost'::text THEN 'lost'::text WHEN 'dispute.conceded'::text THEN 'lost'::text ELSE NULL::text END;

CREATE OR REPLACE FUNCTION reporting.major_units(amount numeric, currency text)
 RETURNS numeric
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE WHEN (currency = ANY (ARRAY['bif'::text, 'clp'::text, 'djf'::text, 'gnf'::text, 'jpy'::text, 'kmf'::text, 'krw'::text, 'mga'::text, 'pyg'::text, 'rwf'::text, 'vnd'::text, 'vuv'::text, 'xaf'::text, 'xof'::text, 'xpf'::text])) THEN round(amount) WHEN (currency = ANY (ARRAY['bhd'::text, 'jod'::text, 'kwd'::text, 'omr'::text, 'tnd'::text])) THEN round((amount / (1000)::numeric), 3) ELSE round((amount / (100)::numeric), 2) END;

CREATE OR REPLACE FUNCTION reporting.position_at(moment timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE STRICT
AS $function$
DECLARE
    low bigint := 0;  -- 0, or the position of a record that is not later than the moment
    high bigint := (SELECT f.position + 1 FROM reporting.freshness f WHERE f.projection = 'log');
    middle bigint;
BEGIN
    WHILE high - low > 1 LOOP
        middle := (low + high) / 2;
        IF (SELECT c.recorded_at FROM reporting.changes c WHERE c.position = middle) <= moment THEN
            low := middle;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN low;
END $function$;

CREATE OR REPLACE FUNCTION reporting.read_fields(state bytea)
 RETURNS reporting.fields
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
BEGIN
    RETURN jsonb_populate_record(NULL::reporting.fields, convert_from(state, 'UTF8')::jsonb);
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $function$;

CREATE OR REPLACE FUNCTION reporting.read_state(state bytea)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
BEGIN
    RETURN convert_from(state, 'UTF8')::jsonb - 'sealed';
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $function$;


CREATE SCHEMA request_log;
GRANT USAGE ON SCHEMA request_log TO ledger_api;

CREATE TABLE request_log.counts (
    owner text NOT NULL,
    livemode boolean NOT NULL,
    period integer NOT NULL,
    start timestamp with time zone NOT NULL,
    account text NOT NULL,
    operation text NOT NULL,
    status smallint NOT NULL,
    code text NOT NULL,
    param text NOT NULL,
    count bigint NOT NULL,
    left_out bigint NOT NULL,
    seconds double precision NOT NULL,
    seconds_max double precision NOT NULL,
    within_5ms bigint NOT NULL,
    within_20ms bigint NOT NULL,
    within_100ms bigint NOT NULL,
    within_500ms bigint NOT NULL,
    within_2000ms bigint NOT NULL,
    longer bigint NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    CONSTRAINT counts_key PRIMARY KEY (owner, livemode, period, start, account, operation, status, code, param),
    CONSTRAINT counts_period CHECK (period = ANY (ARRAY[60, 3600]))
) WITH (fillfactor=70);
CREATE INDEX counts_by_start ON request_log.counts USING btree (period, start);
GRANT DELETE, INSERT, SELECT, UPDATE ON request_log.counts TO ledger_api;

CREATE TABLE request_log.requests (
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at timestamp with time zone NOT NULL,
    request_id text NOT NULL,
    owner text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    key text,
    method text NOT NULL,
    path text NOT NULL,
    operation text NOT NULL,
    status smallint NOT NULL,
    milliseconds real NOT NULL,
    grouped_by text NOT NULL,
    error_type text,
    code text,
    param text,
    message text,
    CONSTRAINT requests_key PRIMARY KEY (number)
);
CREATE INDEX requests_by_id ON request_log.requests USING btree (request_id);
CREATE INDEX requests_of_account ON request_log.requests USING btree (account, livemode, at, number);
CREATE INDEX requests_of_group ON request_log.requests USING btree (owner, livemode, grouped_by, at, number);
CREATE INDEX requests_of_key ON request_log.requests USING btree (owner, livemode, key, at, number);
CREATE INDEX requests_of_owner ON request_log.requests USING btree (owner, livemode, at, number);
GRANT DELETE, INSERT, SELECT, UPDATE ON request_log.requests TO ledger_api;


CREATE SCHEMA stripe_cli;
GRANT USAGE ON SCHEMA stripe_cli TO ledger_api;

CREATE TABLE stripe_cli.logins (
    poll_hash bytea NOT NULL,
    page_hash bytea NOT NULL,
    code text NOT NULL,
    device text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    account text,
    redeemed boolean NOT NULL DEFAULT false,
    CONSTRAINT logins_key PRIMARY KEY (poll_hash),
    CONSTRAINT logins_page UNIQUE (page_hash),
    CONSTRAINT logins_redeemed_when_confirmed CHECK (account IS NOT NULL OR NOT redeemed)
);
GRANT DELETE, INSERT, SELECT, UPDATE ON stripe_cli.logins TO ledger_api;

CREATE TABLE stripe_cli.request_logs (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    session text NOT NULL,
    at timestamp with time zone NOT NULL DEFAULT now(),
    payload text NOT NULL,
    CONSTRAINT request_logs_key PRIMARY KEY (session, id),
    CONSTRAINT request_logs_session_fkey FOREIGN KEY (session) REFERENCES stripe_cli.sessions(id) ON DELETE CASCADE
);
GRANT DELETE, INSERT, SELECT, UPDATE ON stripe_cli.request_logs TO ledger_api;

CREATE TABLE stripe_cli.resends (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    session text NOT NULL,
    event text NOT NULL,
    created bigint NOT NULL,
    CONSTRAINT resends_key PRIMARY KEY (id),
    CONSTRAINT resends_session_fkey FOREIGN KEY (session) REFERENCES stripe_cli.sessions(id) ON DELETE CASCADE
);
CREATE INDEX resends_of_session ON stripe_cli.resends USING btree (session, id);
GRANT DELETE, INSERT, SELECT, UPDATE ON stripe_cli.resends TO ledger_api;

CREATE TABLE stripe_cli.sessions (
    id text NOT NULL,
    websocket_hash bytea NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    key text NOT NULL,
    device text NOT NULL,
    features text[] NOT NULL,
    filters jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    seen_at timestamp with time zone NOT NULL DEFAULT now(),
    connection text,
    "position" bigint NOT NULL,
    acknowledged text[] NOT NULL DEFAULT '{}'::text[],
    missed bigint NOT NULL DEFAULT 0,
    CONSTRAINT sessions_key PRIMARY KEY (id),
    CONSTRAINT sessions_websocket UNIQUE (websocket_hash),
    CONSTRAINT sessions_account_fkey FOREIGN KEY (account) REFERENCES ledger.accounts(id),
    CONSTRAINT sessions_key_fkey FOREIGN KEY (key) REFERENCES ledger.api_keys(id)
) WITH (fillfactor=50);
CREATE INDEX sessions_of_account ON stripe_cli.sessions USING btree (account, livemode);
GRANT DELETE, INSERT, SELECT, UPDATE ON stripe_cli.sessions TO ledger_api;


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
    sealed_answer bytea,
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
    schedule_from smallint NOT NULL DEFAULT 0,
    replay text,
    object text,
    retried_from text,
    CONSTRAINT deliveries_key PRIMARY KEY (id),
    CONSTRAINT deliveries_once UNIQUE (event, endpoint),
    CONSTRAINT deliveries_state CHECK (state = ANY (ARRAY['pending'::text, 'delivered'::text, 'failed'::text, 'dropped'::text, 'forwarded'::text])) NOT VALID
);
CREATE INDEX deliveries_due ON webhooks.deliveries USING btree (endpoint, due_at) WHERE (state = 'pending'::text);
CREATE INDEX deliveries_forwarded ON webhooks.deliveries USING btree (account, livemode, id) WHERE (state = 'forwarded'::text);
CREATE INDEX deliveries_given_up ON webhooks.deliveries USING btree (endpoint, "position", ordinal) WHERE (state = ANY (ARRAY['failed'::text, 'dropped'::text]));
CREATE INDEX deliveries_in_order ON webhooks.deliveries USING btree (endpoint, object, "position", ordinal) WHERE ((state = 'pending'::text) AND (object IS NOT NULL));
CREATE INDEX deliveries_newest ON webhooks.deliveries USING btree (endpoint, state, id);
CREATE INDEX deliveries_of_replay ON webhooks.deliveries USING btree (replay, state, id) WHERE (replay IS NOT NULL);
CREATE INDEX deliveries_of_type ON webhooks.deliveries USING btree (endpoint, type, state, id);
CREATE INDEX deliveries_owed ON webhooks.deliveries USING btree (account, livemode, created, "position", ordinal) WHERE (state = ANY (ARRAY['pending'::text, 'failed'::text]));
CREATE INDEX deliveries_replay_due ON webhooks.deliveries USING btree (endpoint, due_at) WHERE ((state = 'pending'::text) AND (replay IS NOT NULL));
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
    opened_at timestamp with time zone,
    probe_at timestamp with time zone,
    failed_probes integer NOT NULL DEFAULT 0,
    probe_until timestamp with time zone NOT NULL DEFAULT '-infinity'::timestamp with time zone,
    asked_until timestamp with time zone,
    CONSTRAINT endpoint_health_key PRIMARY KEY (endpoint),
    CONSTRAINT endpoint_health_outcome CHECK ((status IS NULL) = (error IS NOT NULL))
) WITH (fillfactor=50);
CREATE INDEX endpoint_health_failing ON webhooks.endpoint_health USING btree (since) WHERE failing;
CREATE INDEX endpoint_health_open ON webhooks.endpoint_health USING btree (probe_at) WHERE (failing AND (opened_at IS NOT NULL));
GRANT DELETE, INSERT, SELECT, UPDATE ON webhooks.endpoint_health TO ledger_api;

CREATE TABLE webhooks.late (
    stream text NOT NULL,
    "position" bigint NOT NULL,
    CONSTRAINT late_stream PRIMARY KEY (stream)
);
GRANT DELETE, INSERT, SELECT, UPDATE ON webhooks.late TO ledger_api;

CREATE TABLE webhooks.replays (
    id text NOT NULL,
    endpoint text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    window_from bigint NOT NULL,
    window_to bigint NOT NULL,
    after bigint NOT NULL,
    upto bigint NOT NULL,
    asked_types text[] NOT NULL,
    types text[],
    only_failed boolean NOT NULL,
    object text,
    who text NOT NULL,
    reason text NOT NULL,
    created bigint NOT NULL,
    state text NOT NULL DEFAULT 'running'::text,
    ended bigint,
    counted_position bigint NOT NULL,
    queued_position bigint NOT NULL,
    total bigint NOT NULL DEFAULT 0,
    queued bigint NOT NULL DEFAULT 0,
    left_alone bigint NOT NULL DEFAULT 0,
    unreadable bigint NOT NULL DEFAULT 0,
    delivered bigint,
    failed bigint,
    dropped bigint,
    waits_for text,
    active_seconds double precision NOT NULL DEFAULT 0,
    active_since timestamp with time zone DEFAULT now(),
    CONSTRAINT replays_key PRIMARY KEY (id),
    CONSTRAINT replays_end CHECK ((state = ANY (ARRAY['completed'::text, 'cancelled'::text])) = (ended IS NOT NULL)),
    CONSTRAINT replays_state CHECK (state = ANY (ARRAY['running'::text, 'paused'::text, 'completed'::text, 'cancelled'::text]))
) WITH (fillfactor=50);
CREATE INDEX replays_newest ON webhooks.replays USING btree (account, livemode, id);
CREATE UNIQUE INDEX replays_one_of_endpoint ON webhooks.replays USING btree (endpoint) WHERE (ended IS NULL);
GRANT INSERT, SELECT, UPDATE ON webhooks.replays TO ledger_api;

CREATE TABLE webhooks.retries (
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    endpoint text,
    event text,
    states text[] NOT NULL,
    asked_types text[] NOT NULL,
    types text[],
    created_bounds jsonb NOT NULL,
    first_id text NOT NULL,
    before_id text NOT NULL,
    status smallint,
    error text,
    who text NOT NULL,
    reason text NOT NULL,
    created bigint NOT NULL,
    state text NOT NULL DEFAULT 'running'::text,
    ended bigint,
    delivered bigint,
    failed bigint,
    dropped bigint,
    returned bigint,
    active_seconds double precision NOT NULL DEFAULT 0,
    active_since timestamp with time zone DEFAULT now(),
    CONSTRAINT retries_key PRIMARY KEY (id),
    CONSTRAINT retries_end CHECK ((state = ANY (ARRAY['completed'::text, 'cancelled'::text])) = (ended IS NOT NULL)),
    CONSTRAINT retries_state CHECK (state = ANY (ARRAY['running'::text, 'paused'::text, 'completed'::text, 'cancelled'::text]))
);
CREATE INDEX retries_newest ON webhooks.retries USING btree (account, livemode, id);
CREATE INDEX retries_unended ON webhooks.retries USING btree (id) WHERE (ended IS NULL);
GRANT INSERT, SELECT, UPDATE ON webhooks.retries TO ledger_api;

CREATE TABLE webhooks.retry_parts (
    retry text NOT NULL,
    endpoint text NOT NULL,
    counted_id text NOT NULL,
    taken_id text NOT NULL,
    matched bigint NOT NULL DEFAULT 0,
    made_due bigint NOT NULL DEFAULT 0,
    in_other_job bigint NOT NULL DEFAULT 0,
    exhausted bigint NOT NULL DEFAULT 0,
    unreachable bigint NOT NULL DEFAULT 0,
    obstacle text,
    waits_for text,
    CONSTRAINT retry_parts_key PRIMARY KEY (retry, endpoint),
    CONSTRAINT retry_parts_retry FOREIGN KEY (retry) REFERENCES webhooks.retries(id)
) WITH (fillfactor=50);
GRANT INSERT, SELECT, UPDATE ON webhooks.retry_parts TO ledger_api;

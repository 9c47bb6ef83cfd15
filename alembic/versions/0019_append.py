"""Append a batch at less cost.

Revision ID: 0019
Revises: 0018
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- What ledger.append does, for releases since this one; releases before it call ledger.append. One array for
-- each column instead of JSON, which the database parsed several times
-- (docs/decisions/0081-append-takes-arrays.md).
--   number     of the batch, counted by the appender
--   at         unix seconds
--   check_*    streams that must have a version, 0 for no event yet; `check_command` is the index of the
--              command that relies on it. NULL: nothing to check
--   event_*    the events in order. NULL: none. A stream that an event creates needs no check: if it exists,
--              the constraint events_stream_version refuses the whole batch
--   reply_*    the replies. NULL: none. `reply_place`: the place in the batch (1, 2, 3 …) of the
--              last event of the reply's command, NULL if it has none
-- Each command is accepted or refused alone; accepted events get the next positions in order.
--   base       the log's last position before the batch
--   stale      indexes of commands refused for the version of a stream; NULL: none
--   taken      indexes of commands refused because their idempotency key has a reply; NULL: none
-- A column may be NULL instead of an array of NULLs: unnest in the SELECT list gives NULLs beside the others.
-- It is there because in FROM each array would be copied to a buffer of 16 kB.
CREATE FUNCTION ledger.append_batch(
    appender uuid, number bigint, at double precision,
    check_command integer[], check_stream text[], check_version integer[],
    event_command integer[], event_stream text[], event_version integer[], event_topic text[],
    event_state bytea[], event_account text[], event_livemode boolean[], event_actor text[],
    event_request_id text[], event_idempotency_key text[], event_causation text[], event_customer text[],
    event_charge text[], event_payment_intent text[],
    reply_command integer[], reply_account text[], reply_livemode boolean[], reply_key text[],
    reply_fingerprint text[], reply_status smallint[], reply_body text[], reply_secret_of text[],
    reply_secret_at integer[], reply_request_id text[], reply_place integer[],
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
END $$;
"""

"""The schema `reporting`: views of what is live, one row per object, and the role that may read them.

Revision ID: 0024
Revises: 0023
"""

import re

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statements in (ROLE, FUNCTIONS, VIEWS, LAST_FUNCTION, GRANTS, *list_comments(VIEWS)):
        op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def list_comments(views: str) -> list[str]:
    """COMMENT statements from the SQL of views: of each view, what is written before it; of each column, what
    is written behind it and on the next lines, or else in COMMON_COLUMNS."""
    statements = []
    for text, name, columns in re.findall(
        r"((?:^-- .*\n)+)CREATE VIEW (\S+) AS SELECT\n((?:^    .*\n)+)", views, flags=re.MULTILINE
    ):
        statements.append(f"COMMENT ON VIEW {name} IS {_quote(text)}")
        for column, comment in re.findall(r"(\w+)(?:,$|,?((?:\s+-- .*)+)$)", columns, flags=re.MULTILINE):
            statements.append(
                f"COMMENT ON COLUMN {name}.{column} IS {_quote(comment or COMMON_COLUMNS[column])}"
            )
    return statements


def _quote(comment: str) -> str:
    words = [word for word in comment.split() if word != "--"]
    return "'" + " ".join(words).replace("'", "''") + "'"


COMMON_COLUMNS = {
    "account": "Id of the account that owns it.",
    "livemode": "True: live mode; false: test mode.",
    "currency": "Three-letter ISO code in lower case: the currency of the amounts in this row.",
}

# Made where it is missing: the databases of a cluster share it. Its settings hold for whoever logs in as this
# role; a user that is a member of it has its own.
ROLE = """
SET LOCAL lock_timeout = '2s';

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger_analyst') THEN
        CREATE ROLE ledger_analyst NOLOGIN;
        ALTER ROLE ledger_analyst SET default_transaction_read_only = on;
        ALTER ROLE ledger_analyst SET timezone = 'UTC';
        ALTER ROLE ledger_analyst SET statement_timeout = '5min';
        ALTER ROLE ledger_analyst SET idle_in_transaction_session_timeout = '1min';
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- two migrations at once, one cluster
END $$;
-- For `ledger psql --role`: from PostgreSQL 16 on, a user that makes a role may give it to others, but not
-- take it. Another user may have made it for the cluster.
DO $$ BEGIN
    EXECUTE format('GRANT ledger_analyst TO %I', current_user);
EXCEPTION WHEN unique_violation OR invalid_grant_operation OR insufficient_privilege THEN NULL;
END $$;
CREATE SCHEMA reporting;
COMMENT ON SCHEMA reporting IS
    'For analysts: what is live, one row per object, without personal data (docs/analysis.md)';
"""

FUNCTIONS = """
CREATE FUNCTION reporting.major_units(amount numeric, currency text) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN currency IN ('bif', 'clp', 'djf', 'gnf', 'jpy', 'kmf', 'krw', 'mga', 'pyg', 'rwf', 'vnd', 'vuv',
                      'xaf', 'xof', 'xpf') THEN round(amount)
    WHEN currency IN ('bhd', 'jod', 'kwd', 'omr', 'tnd') THEN round(amount / 1000, 3)
    ELSE round(amount / 100, 2)
END;
COMMENT ON FUNCTION reporting.major_units IS
    'An amount in minor units as people write it: 1999 usd is 19.99, 1999 jpy is 1999, 1999 kwd is 1.999';

-- What the views show of the JSON of a record. None of it is personal.
CREATE TYPE reporting.movement AS (
    amount bigint, fee bigint, currency text, created bigint, available_on bigint
);
CREATE TYPE reporting.fields AS (
    amount bigint, currency text, movement reporting.movement, customer text, charge text, dispute text,
    outcome jsonb, failure_code text, kind text, reason text, network_reason_code text, brand text,
    due_by bigint, past_due boolean, cause text, amount_received bigint, error jsonb, component text,
    expires_at bigint
);
-- Null for a record that is damaged: it fails no query.
CREATE FUNCTION reporting.read_fields(state bytea) RETURNS reporting.fields LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN jsonb_populate_record(NULL::reporting.fields, convert_from(state, 'UTF8')::jsonb);
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
CREATE FUNCTION reporting.read_state(state bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(state, 'UTF8')::jsonb - 'sealed';
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- `topic`: the last that sets a status. `round`: 1 as an inquiry, 2 as a dispute, 3 from an appeal on.
CREATE FUNCTION reporting.dispute_status(topic text, kind text, round integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE topic
    WHEN 'dispute.opened' THEN CASE kind WHEN 'inquiry' THEN 'warning_needs_response'
                                         WHEN 'prevented' THEN 'prevented' ELSE 'needs_response' END
    WHEN 'dispute.evidence_submitted' THEN CASE round
        WHEN 1 THEN 'warning_under_review' WHEN 2 THEN 'under_review' WHEN 3 THEN 'appeal_under_review' END
    WHEN 'dispute.inquiry_escalated' THEN 'needs_response'
    WHEN 'dispute.inquiry_closed' THEN 'warning_closed'
    WHEN 'dispute.appeal_opened' THEN 'appeal_needs_response'
    WHEN 'dispute.won' THEN 'won'
    WHEN 'dispute.lost' THEN 'lost'
    WHEN 'dispute.conceded' THEN 'lost'
END;
"""

# Which objects there are is read from the live generation of their projection; what happened to each, from
# its records in the log, found by the index of streams (docs/decisions/0096-reporting-from-the-log.md).
VIEWS = """
-- The accounts.
CREATE VIEW reporting.accounts AS SELECT
    a.id,  -- Id of the account, acct_….
    a.name,  -- Name that the operator gave it.
    a.platform,  -- Id of the account that it is connected to; null: none.
    a.created_at  -- When it was created.
FROM ledger.accounts a;

-- The API keys, without anything by which one could be used. Their ids stand in other views as `api_key`.
CREATE VIEW reporting.api_keys AS SELECT
    k.id,  -- Id of the key, key_….
    k.account,
    k.livemode,
    k.kind,  -- sk: secret, rk: restricted, pk: publishable.
    k.name,  -- Name that was given to it when it was created.
    k.scopes,  -- What a restricted key may do.
    k.created_at,  -- When it was created.
    k.expires_at,  -- When it stops to work; null: never.
    k.last_used_at  -- When it was last used, to within some minutes; null: never.
FROM ledger.api_keys k;

-- One row per customer, deleted ones too. Names, addresses and the like are personal data and not here.
CREATE VIEW reporting.customers AS SELECT
    c.id,  -- Id of the customer, cus_….
    c.account,
    c.livemode,
    to_timestamp(c.created) AS created_at,  -- When it was created, perhaps in another system.
    c.deleted  -- Whether it was deleted.
FROM projections.customers c
WHERE c.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'customers');

-- One row per customer session, from the log alone: bound `position` where the log is large.
CREATE VIEW reporting.customer_sessions AS SELECT
    e.originator_id AS id,  -- Id of the session, cuss_….
    e.account,
    e.livemode,
    e.recorded_at AS created_at,  -- When it was created.
    e.notification_id AS position,  -- Position in the log of the record that created it.
    s.customer,  -- Id of the customer.
    s.component,  -- The component that it enables.
    to_timestamp(s.expires_at) AS expires_at,  -- When its client secret stops to work.
    later.claimed_at,  -- When a front end exchanged the client secret; null: not.
    later.revoked_at  -- When it was withdrawn; null: not.
FROM ledger.events e
CROSS JOIN LATERAL reporting.read_fields(e.state) s
CROSS JOIN LATERAL (
    SELECT max(o.recorded_at) FILTER (WHERE o.topic = 'customer_session.claimed') AS claimed_at,
           max(o.recorded_at) FILTER (WHERE o.topic = 'customer_session.revoked') AS revoked_at
    FROM ledger.events o WHERE o.originator_id = e.originator_id
) later
WHERE e.topic = 'customer_session.created';

-- One row per charge, declined ones too. Brand and country of its card are sealed with the card.
CREATE VIEW reporting.charges AS SELECT
    c.id,  -- Id of the charge, ch_….
    c.account,
    c.livemode,
    to_timestamp(c.created) AS created_at,  -- When it was created, perhaps in another system.
    c.customer,  -- Id of its customer; null: none.
    c.payment_intent,  -- Id of its payment intent; null: none.
    c.transfer_group,  -- The group that the caller named.
    f.currency,
    f.amount,  -- Minor units that were to be charged.
    f.status,  -- succeeded (paid or authorized) or failed (declined).
    f.captured,  -- Whether money was taken. An authorized charge is not captured yet, or never.
    f.captured_at,  -- When it was captured; null: not.
    f.amount_captured,  -- Minor units that were taken; 0 before the capture.
    f.amount_refunded,  -- Minor units of it that refunds have returned. Of an authorization that expired, 0:
                        -- the API shows its amount there.
    f.fee,  -- Processing fee in minor units, kept also when it is refunded.
    f.disputes,  -- How many disputes it has had, whatever became of them.
    f.ended_by,  -- Why an authorization can no longer be captured: expired, released (its payment intent was
                 -- canceled); null: neither.
    f.failure_code,  -- Why it was declined, as the API's code; null: it was not.
    f.risk_level  -- The risk that the API shows: normal, elevated, highest ….
FROM projections.charges c
CROSS JOIN LATERAL (
    SELECT max(s.currency) FILTER (WHERE e.originator_version = 1) AS currency,
           max(s.amount) FILTER (WHERE e.originator_version = 1) AS amount,
           CASE WHEN bool_or(e.topic = 'charge.failed') THEN 'failed' ELSE 'succeeded' END AS status,
           bool_or((s.movement).amount > 0) IS TRUE AS captured,
           to_timestamp(min((s.movement).created) FILTER (WHERE (s.movement).amount > 0)) AS captured_at,
           coalesce(sum((s.movement).amount) FILTER (WHERE e.topic <> 'charge.refunded'), 0)::bigint
               AS amount_captured,
           coalesce(-sum((s.movement).amount) FILTER (WHERE e.topic = 'charge.refunded'), 0)::bigint
               AS amount_refunded,
           coalesce(sum((s.movement).fee), 0)::bigint AS fee,
           count(DISTINCT s.dispute) AS disputes,
           CASE WHEN bool_or(e.topic = 'charge.expired') THEN 'expired'
                WHEN bool_or(e.topic = 'charge.released') THEN 'released' END AS ended_by,
           max(s.failure_code) AS failure_code,
           max(s.outcome->>'risk_level') AS risk_level
    FROM ledger.events e CROSS JOIN LATERAL reporting.read_fields(e.state) s
    WHERE e.originator_id = c.id
) f
WHERE c.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'charges');

-- One row per refund. All succeed at once.
CREATE VIEW reporting.refunds AS SELECT
    r.id,  -- Id of the refund, re_….
    r.account,
    r.livemode,
    to_timestamp(r.created) AS created_at,  -- When it was made, perhaps in another system.
    r.charge,  -- Id of the refunded charge.
    r.payment_intent,  -- Id of the charge's payment intent; null: none.
    s.customer,  -- Id of the customer; null: none.
    s.currency,
    s.amount,  -- Minor units that were returned.
    s.reason  -- duplicate, fraudulent, requested_by_customer; null: none given.
FROM projections.refunds r
LEFT JOIN ledger.events e ON e.originator_id = r.id AND e.originator_version = 1
CROSS JOIN LATERAL reporting.read_fields(e.state) s
WHERE r.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'refunds');

-- One row per dispute, inquiries too.
CREATE VIEW reporting.disputes AS SELECT
    d.id,  -- Id of the dispute, du_….
    d.account,
    d.livemode,
    to_timestamp(d.created) AS opened_at,  -- When the network opened it.
    f.reported_at,  -- When it was recorded: later than `opened_at` if it was reported late, or imported.
    d.charge,  -- Id of the disputed charge.
    d.payment_intent,  -- Id of the charge's payment intent; null: none.
    f.customer,  -- Id of the charge's customer when it was opened; null: none.
    f.kind,  -- How it began: chargeback, inquiry, compliance or prevented.
    f.reason,  -- Its category: fraudulent, product_not_received ….
    f.network_reason_code,  -- The network's code of the reason.
    f.card_brand,  -- Brand of the card: visa ….
    f.currency,
    f.amount,  -- Disputed minor units; of an escalated inquiry, those of the chargeback.
    reporting.dispute_status(f.last_topic, f.kind, f.round) AS status,  -- As in the API: needs_response ….
    f.last_topic NOT IN ('dispute.won', 'dispute.lost', 'dispute.conceded', 'dispute.inquiry_closed')
        AND f.kind <> 'prevented' AS open,  -- Whether it still awaits the merchant or a decision.
    CASE WHEN f.decisions IS NULL THEN NULL WHEN f.last_topic = 'dispute.won' THEN 'won'
        ELSE 'lost' END AS outcome,  -- won or lost, also while it is appealed; null: neither yet, or closed
        -- as an inquiry.
    f.decided_at,  -- When it was last won, lost or closed; if that moved no money, when it was
        -- recorded. Null: not yet.
    f.decided_by,  -- Who decided that: network, merchant (conceded or closed), deadline, refunded.
    to_timestamp(nullif(f.due_by, 0)) AS evidence_due_at,  -- Last second for evidence; null: none.
    f.evidence_submitted_at,  -- When evidence was first submitted; null: never.
    f.submissions,  -- How many times evidence was submitted.
    f.past_due,  -- Whether the last submission was after `evidence_due_at`; null: there was none.
    f.amount_withdrawn,  -- Minor units that the dispute has taken from the balance and not returned.
    f.fee  -- Dispute fees in minor units, less those that were returned.
FROM projections.disputes d
CROSS JOIN LATERAL (
    SELECT min(e.recorded_at) AS reported_at,
           max(s.customer) AS customer, max(s.kind) AS kind, max(s.reason) AS reason,
           max(s.network_reason_code) AS network_reason_code, max(s.brand) AS card_brand,
           max(s.currency) AS currency,
           coalesce(max(-(s.movement).amount) FILTER (WHERE e.topic = 'dispute.inquiry_escalated'),
                    max(s.amount)) AS amount,
           max(CASE WHEN e.topic = 'dispute.appeal_opened' THEN 3
                    WHEN s.kind = 'inquiry' THEN 1
                    WHEN e.topic IN ('dispute.opened', 'dispute.inquiry_escalated') THEN 2 END) AS round,
           (array_agg(e.topic ORDER BY e.originator_version DESC) FILTER (
               WHERE e.topic NOT IN ('dispute.updated', 'dispute.evidence_staged')))[1] AS last_topic,
           max(e.originator_version) FILTER (
               WHERE e.topic IN ('dispute.won', 'dispute.lost', 'dispute.conceded')) AS decisions,
           (array_agg(coalesce(to_timestamp((s.movement).created), e.recorded_at)
                      ORDER BY e.originator_version DESC) FILTER (
               WHERE e.topic IN ('dispute.won', 'dispute.lost', 'dispute.conceded', 'dispute.inquiry_closed')
           ))[1] AS decided_at,
           (array_agg(CASE e.topic WHEN 'dispute.won' THEN 'network' WHEN 'dispute.conceded' THEN 'merchant'
                      ELSE s.cause END ORDER BY e.originator_version DESC) FILTER (
               WHERE e.topic IN ('dispute.won', 'dispute.lost', 'dispute.conceded', 'dispute.inquiry_closed')
           ))[1] AS decided_by,
           (array_agg(s.due_by ORDER BY e.originator_version DESC) FILTER (WHERE s.due_by IS NOT NULL))[1]
               AS due_by,
           min(e.recorded_at) FILTER (WHERE e.topic = 'dispute.evidence_submitted') AS evidence_submitted_at,
           count(*) FILTER (WHERE e.topic = 'dispute.evidence_submitted') AS submissions,
           (array_agg(s.past_due ORDER BY e.originator_version DESC) FILTER (WHERE s.past_due IS NOT NULL))[1]
               AS past_due,
           coalesce(-sum((s.movement).amount), 0)::bigint AS amount_withdrawn,
           coalesce(sum((s.movement).fee), 0)::bigint AS fee
    FROM ledger.events e CROSS JOIN LATERAL reporting.read_fields(e.state) s
    WHERE e.originator_id = d.id
) f
WHERE d.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'disputes');

-- One row per record of a dispute: how the dispute was from then on until the next.
CREATE VIEW reporting.dispute_history AS SELECT
    d.id AS dispute,  -- Id of the dispute, du_….
    d.account,
    d.livemode,
    h.version,  -- 1, 2, 3 … within the dispute.
    h.position,  -- Position of the record in the log.
    h.recorded_at,  -- When it was recorded.
    h.topic,  -- What happened: dispute.opened, dispute.evidence_submitted, dispute.won ….
    max(h.status) OVER (PARTITION BY d.id, h.step) AS status,  -- Status of the dispute from then on.
    h.currency,
    h.amount,  -- Minor units that this moved into the balance, negative: out of it; null: none.
    h.fee,  -- Minor units of the fee that came with it, negative: returned; null: none.
    h.api_key,  -- Id of the API key that caused it; null: not the API.
    h.request_id,  -- Id of the API request that caused it; null: none.
    h.causation  -- What else caused it: network:…, clock; null: nothing else.
FROM projections.disputes d
CROSS JOIN LATERAL (
    SELECT g.*, count(g.status) OVER (ORDER BY g.version) AS step FROM (
        SELECT e.originator_version AS version, e.notification_id AS position, e.recorded_at, e.topic,
               (s.movement).currency AS currency, (s.movement).amount AS amount, (s.movement).fee AS fee,
               e.actor AS api_key, e.request_id, e.causation,
               reporting.dispute_status(e.topic, s.kind, max(
                   CASE WHEN e.topic = 'dispute.appeal_opened' THEN 3
                        WHEN s.kind = 'inquiry' THEN 1
                        WHEN e.topic IN ('dispute.opened', 'dispute.inquiry_escalated') THEN 2 END
               ) OVER (ORDER BY e.originator_version)) AS status
        FROM ledger.events e CROSS JOIN LATERAL reporting.read_fields(e.state) s
        WHERE e.originator_id = d.id
    ) g
) h
WHERE d.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'disputes');

-- One row per payment intent, also of those that other services publish.
CREATE VIEW reporting.payment_intents AS SELECT
    p.id,  -- Id of the payment intent, pi_….
    p.account,
    p.livemode,
    to_timestamp(p.created) AS created_at,  -- When it was created.
    p.customer,  -- Id of its customer; null: none.
    p.published,  -- Whether another service keeps it: then the columns after `deleted` are not known.
    p.deleted,  -- Whether the service that keeps it deleted it.
    CASE WHEN NOT p.published THEN CASE f.last_topic
        WHEN 'payment_intent.succeeded' THEN 'succeeded' WHEN 'payment_intent.canceled' THEN 'canceled'
        WHEN 'payment_intent.authorized' THEN 'requires_capture'
        ELSE 'open' END END AS status,  -- succeeded, canceled, requires_capture; or open, which the API shows
        -- as requires_payment_method or requires_confirmation: they differ by the card, which is sealed.
    coalesce(c.currency, f.currency) AS currency,  -- Of the newest charge; without one, of the creation.
    coalesce(c.amount, f.amount) AS amount,  -- Minor units of the newest charge; without one, those
        -- of the creation: a change that was not charged yet is sealed.
    f.amount_received,  -- Minor units that were captured; null: none.
    f.latest_charge,  -- Id of the newest charge, perhaps a failed one; null: none.
    f.failures,  -- How many confirmations were declined.
    f.last_failure_code,  -- Code of the last one; null: none.
    f.succeeded_at,  -- When the amount was captured; null: not.
    f.canceled_at,  -- When it was canceled; null: not.
    f.cancellation_reason  -- Why: the caller's reason, or expired; null: none given.
FROM projections.payment_intents p
CROSS JOIN LATERAL (
    SELECT max(s.currency) AS currency, max(s.amount) AS amount, max(s.amount_received) AS amount_received,
           (array_agg(e.topic ORDER BY e.originator_version DESC) FILTER (WHERE e.topic IN (
               'payment_intent.succeeded', 'payment_intent.canceled', 'payment_intent.authorized')))[1]
               AS last_topic,
           (array_agg(coalesce(s.charge, s.error->>'charge') ORDER BY e.originator_version DESC)
               FILTER (WHERE s.charge IS NOT NULL OR s.error IS NOT NULL))[1] AS latest_charge,
           count(s.error) AS failures,
           (array_agg(s.error->>'code' ORDER BY e.originator_version DESC)
               FILTER (WHERE s.error IS NOT NULL))[1] AS last_failure_code,
           max(e.recorded_at) FILTER (WHERE e.topic = 'payment_intent.succeeded') AS succeeded_at,
           max(e.recorded_at) FILTER (WHERE e.topic = 'payment_intent.canceled') AS canceled_at,
           max(s.reason) AS cancellation_reason
    FROM ledger.events e CROSS JOIN LATERAL reporting.read_fields(e.state) s
    WHERE e.originator_id = p.id
) f
LEFT JOIN LATERAL (
    SELECT s.currency, s.amount FROM ledger.events e CROSS JOIN LATERAL reporting.read_fields(e.state) s
    WHERE e.originator_id = f.latest_charge AND e.originator_version = 1
) c ON true
WHERE p.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'payment_intents');

-- One row per change of an account's balance: of a charge, refund or dispute.
CREATE VIEW reporting.balance_transactions AS SELECT
    b.id,  -- Id of the balance transaction, txn_….
    b.account,
    b.livemode,
    to_timestamp(b.created) AS created_at,  -- When it was made.
    b.position,  -- Position in the log of the record that made it.
    b.type,  -- charge, refund or adjustment (a dispute's).
    b.source,  -- Id of the charge, refund or dispute.
    b.currency,
    (s.movement).amount,  -- Minor units before the fee; negative: out of the balance.
    (s.movement).fee,  -- Minor units that were kept as a fee; negative: returned.
    (s.movement).amount - (s.movement).fee AS net,  -- Minor units by which the balance changed.
    to_timestamp((s.movement).available_on) AS available_at  -- From when on the money can be used.
FROM projections.balance_transactions b
LEFT JOIN ledger.events e ON e.notification_id = b.position
CROSS JOIN LATERAL reporting.read_fields(e.state) s
WHERE b.generation = (
    SELECT l.generation FROM projections.live l WHERE l.projection = 'balance_transactions');

-- One row per posting: one side of an entry of the double-entry journal. The postings of a transaction sum to
-- zero in each currency.
CREATE VIEW reporting.postings AS SELECT
    p.id,  -- Id of the posting: that of the transaction and a number.
    p.account,
    p.livemode,
    to_timestamp(p.created) AS created_at,  -- When the transaction was made.
    p.position,  -- Position in the log of the record that made it.
    p.transaction,  -- Id of the balance transaction.
    p.source,  -- Id of the charge, refund or dispute.
    p.ledger_account,  -- network, merchant_balance, processing_fees or dispute_fees.
    p.currency,
    p.amount  -- Minor units: positive is a debit, negative a credit.
FROM projections.postings p
WHERE p.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'postings');

-- One row per public Event of the last 30 days, without its data. What is older is in `changes`.
CREATE VIEW reporting.events AS SELECT
    f.id,  -- Id of the Event, evt_….
    f.account,
    f.livemode,
    to_timestamp(f.created) AS created_at,  -- When it was recorded, in whole seconds.
    f.position,  -- Position in the log of the record that it shows; that has the API key.
    f.type,  -- Type of the Event: charge.dispute.created ….
    f.object_id AS object,  -- Id of the object that it is about; empty: the object has none.
    f.request_id,  -- Id of the API request that caused it; null: none.
    f.idempotency_key  -- Idempotency key of that request; null: none.
FROM projections.feed f
WHERE f.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'feed');

-- One row per record of the log: what changed, when, by whom. Bound `position` where the log is large.
CREATE VIEW reporting.changes AS SELECT
    e.notification_id AS position,  -- 1, 2, 3 … in the order of the changes, without holes.
    e.recorded_at,  -- When it was recorded. Never decreases along the positions.
    e.account,
    e.livemode,
    e.originator_id AS object,  -- Id of the changed object.
    e.originator_version AS version,  -- 1, 2, 3 … within the object.
    e.topic,  -- What happened: customer.updated, dispute.won ….
    e.actor AS api_key,  -- Id of the API key that caused it; null: not the API.
    k.name AS api_key_name,  -- Name of that key; null: not the API.
    e.request_id,  -- Id of the API request that caused it; null: none.
    e.idempotency_key,  -- Idempotency key of that request; null: none.
    e.causation  -- What else caused it: network:…, clock; null: nothing else.
FROM ledger.events e LEFT JOIN ledger.api_keys k ON k.id = e.actor;

-- One row per record of the log, with its content as JSON, without what is personal. Bound `position` where
-- the log is large.
CREATE VIEW reporting.readable_events AS SELECT
    e.notification_id AS position,  -- 1, 2, 3 … in the order of the changes, without holes.
    e.originator_id AS stream,  -- Id of the changed object.
    e.originator_version AS version,  -- 1, 2, 3 … within the object.
    e.topic,  -- What happened: customer.updated, dispute.won ….
    reporting.read_state(e.state) AS state,  -- The fields of the event as JSON; null: the record is damaged.
    e.account,
    e.livemode,
    e.actor,  -- Id of the API key that caused it; null: not the API.
    e.request_id,  -- Id of the API request that caused it; null: none.
    e.idempotency_key,  -- Idempotency key of that request; null: none.
    e.causation,  -- What else caused it: network:…, clock; null: nothing else.
    e.customer,  -- Id of the customer that it refers to; null: none.
    e.charge,  -- Id of the charge that it refers to; null: none.
    e.payment_intent,  -- Id of the payment intent that it refers to; null: none.
    e.recorded_at  -- When it was recorded. Never decreases along the positions.
FROM ledger.events e;

-- One row per object that another service publishes, without its content.
CREATE VIEW reporting.resources AS SELECT
    r.id,  -- Id of the object, as its service names it.
    r.account,
    r.livemode,
    r.type,  -- Type of the object: invoice ….
    to_timestamp(r.created) AS created_at,  -- When it was created, as its service says; else first published.
    r.customer,  -- Id of the customer that it names; null: none.
    r.subscription,  -- Id of the subscription that it names; null: none.
    r.status,  -- Its status, if it has one.
    r.deleted  -- Whether its service deleted it.
FROM projections.resources r
WHERE r.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'resources');

-- One row per webhook endpoint, deleted ones too, without its URL.
CREATE VIEW reporting.webhook_endpoints AS SELECT
    w.id,  -- Id of the endpoint, we_….
    w.account,
    w.livemode,
    to_timestamp(w.created) AS created_at,  -- When it was created.
    w.deleted  -- Whether it was deleted.
FROM projections.webhook_endpoints w
WHERE w.generation = (SELECT l.generation FROM projections.live l WHERE l.projection = 'webhook_endpoints');

-- One row per delivery: an Event that was owed to an endpoint in the last 30 days.
CREATE VIEW reporting.webhook_deliveries AS SELECT
    d.id,  -- Id of the delivery.
    d.event,  -- Id of the Event, evt_….
    d.type,  -- Type of the Event.
    d.endpoint,  -- Id of the endpoint, we_….
    d.account,  -- Id of the account whose Event it is.
    d.livemode,
    to_timestamp(d.created) AS created_at,  -- When the Event was recorded.
    d.state,  -- pending, delivered, failed (given up) or dropped (the endpoint was deleted).
    d.tries AS attempts,  -- How many attempts were made.
    a.last_attempt_at,  -- When the last one was made; null: none.
    CASE WHEN d.state = 'pending' THEN d.due_at END AS due_at  -- When the next one is due; null: none is.
FROM webhooks.deliveries d
CROSS JOIN LATERAL (SELECT max(t.at) AS last_attempt_at FROM webhooks.attempts t WHERE t.delivery = d.id) a;

-- One row per attempt to deliver an Event.
CREATE VIEW reporting.webhook_attempts AS SELECT
    t.delivery,  -- Id of the delivery.
    t.number,  -- 1, 2, 3 … within the delivery.
    t.at,  -- When it was made.
    t.duration_ms,  -- How many milliseconds it took.
    t.status,  -- HTTP status of the answer; null: there was no answer.
    t.error,  -- Why there was no answer, as a code; null: there was one.
    coalesce(t.status BETWEEN 200 AND 299, false) AS succeeded  -- Whether it was delivered by this attempt.
FROM webhooks.attempts t;

-- How fresh the figures are: one row per source, `log` and the projections that the other views read.
CREATE VIEW reporting.freshness AS SELECT
    c.projection,  -- Name of the projection; views of the same name read it, and `events` reads `feed`.
    c.position,  -- Position in the log up to which it is complete.
    c.recorded_at,  -- When the record at that position was recorded.
    h.position - c.position AS events_behind,  -- Records of the log that it lacks; 0: it is complete.
    extract(epoch FROM greatest(h.recorded_at - c.recorded_at, interval '0'))::float8
        AS seconds_behind,  -- Time between its last record and the newest one.
    (SELECT count(*) FROM projections.parked p
     WHERE p.projection = c.projection AND p.generation = c.generation)
        AS parked_streams  -- Objects that it does not keep up to date, because of an error.
FROM ledger.head h CROSS JOIN (
    SELECT 'log' AS projection, 0 AS generation, i.position, i.recorded_at FROM ledger.head i
    UNION ALL
    SELECT k.projection, k.generation, k.position, k.recorded_at
    FROM projections.live l
    JOIN projections.checkpoints k ON k.projection = l.projection AND k.generation = l.generation
    WHERE l.projection IN ('customers', 'charges', 'refunds', 'disputes', 'payment_intents', 'postings',
                           'balance_transactions', 'feed', 'resources', 'webhook_endpoints')
) c;
"""

LAST_FUNCTION = """
-- By halves along the primary key: times do not decrease along positions, so they need no index of their own.
CREATE FUNCTION reporting.position_at(moment timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE STRICT AS $$
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
END $$;
COMMENT ON FUNCTION reporting.position_at IS
    'The last position of the log that was recorded at or before a moment; 0: none was';
"""

GRANTS = """
GRANT USAGE ON SCHEMA reporting TO ledger_analyst;
GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO ledger_analyst;
"""

"""Shorter keys: an audit index of hashes, and indexes of hashes for lists.

Revision ID: 0022
Revises: 0021
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The audit index of this release and later ones: one row per recorded event; `id` is its position. `by_…`
-- are hashes of account, mode and what the name says (`ledger.store.index_keys`), that of a creation with
-- `created`; what is found by them is compared with the log. Positions grow, so pages are filled whole, but
-- not those by request and idempotency key, which come in any order. Only where two columns have no more than
-- 16 bytes does Postgres also fill pages where entries grow in the middle, behind those of their own key.
CREATE TABLE projections.audit_keys (
    generation integer NOT NULL,
    by_owner integer NOT NULL,
    id bigint NOT NULL,
    position bigint NOT NULL,
    created bigint,
    by_creation bigint,
    by_topic integer NOT NULL,
    by_actor integer,
    by_actor_and_topic integer,
    by_request integer,
    by_idempotency_key integer,
    aggregate text,
    CONSTRAINT audit_keys_key PRIMARY KEY (generation, id) WITH (fillfactor = 100)
) PARTITION BY LIST (generation);
CREATE INDEX audit_keys_by_owner
    ON projections.audit_keys (by_owner, position) WITH (fillfactor = 100);
CREATE INDEX audit_keys_by_topic
    ON projections.audit_keys (by_topic, position) WITH (fillfactor = 100);
CREATE INDEX audit_keys_by_actor
    ON projections.audit_keys (by_actor, position) WITH (fillfactor = 100)
    WHERE by_actor IS NOT NULL;
CREATE INDEX audit_keys_by_actor_and_topic
    ON projections.audit_keys (by_actor_and_topic, position) WITH (fillfactor = 100)
    WHERE by_actor_and_topic IS NOT NULL;
CREATE INDEX audit_keys_by_request
    ON projections.audit_keys (by_request, position) WHERE by_request IS NOT NULL;
CREATE INDEX audit_keys_by_idempotency_key
    ON projections.audit_keys (by_idempotency_key, position)
    WHERE by_idempotency_key IS NOT NULL;
CREATE INDEX audit_keys_by_creation
    ON projections.audit_keys (by_creation, position) WITH (fillfactor = 100)
    WHERE by_creation IS NOT NULL;
ALTER TABLE projections.audit_keys OWNER TO ledger_projector;
GRANT SELECT ON projections.audit_keys TO ledger_api;

-- Lists are read along hashes of account, mode and filter, 8 bytes instead of 30 to 60; the columns are
-- compared as well. Generations that exist keep their indexes, by which the same queries are answered; those
-- created from now on have both, until no older release may run.
CREATE INDEX customers_hashed_newest ON ONLY projections.customers
    (hash_record_extended(ROW (account, livemode), 0), created, position)
    WHERE NOT deleted;
CREATE INDEX customers_hashed_by_email ON ONLY projections.customers
    (hash_record_extended(ROW (account, livemode, email), 0), created, position)
    WHERE NOT deleted;
CREATE INDEX charges_hashed_newest ON ONLY projections.charges
    (hash_record_extended(ROW (account, livemode), 0), created, position);
CREATE INDEX charges_hashed_by_customer ON ONLY projections.charges
    (hash_record_extended(ROW (account, livemode, customer), 0), created, position)
    WHERE customer IS NOT NULL;
CREATE INDEX charges_hashed_by_payment_intent ON ONLY projections.charges
    (hash_record_extended(ROW (account, livemode, payment_intent), 0), created, position)
    WHERE payment_intent IS NOT NULL;
CREATE INDEX charges_hashed_by_transfer_group ON ONLY projections.charges
    (hash_record_extended(ROW (account, livemode, transfer_group), 0), created, position)
    WHERE transfer_group IS NOT NULL;
CREATE INDEX balance_transactions_hashed_newest ON ONLY projections.balance_transactions
    (hash_record_extended(ROW (account, livemode), 0), created, position) WITH (fillfactor = 100);
CREATE INDEX balance_transactions_hashed_by_currency ON ONLY projections.balance_transactions
    (hash_record_extended(ROW (account, livemode, currency), 0), created, position) WITH (fillfactor = 100);
CREATE INDEX balance_transactions_hashed_by_source ON ONLY projections.balance_transactions
    (hash_record_extended(ROW (account, livemode, source), 0), created, position) WITH (fillfactor = 100);
CREATE INDEX balance_transactions_hashed_by_type ON ONLY projections.balance_transactions
    (hash_record_extended(ROW (account, livemode, type), 0), created, position) WITH (fillfactor = 100);
CREATE INDEX payment_methods_hashed_by_card ON ONLY projections.payment_methods
    (hash_record_extended(ROW (account, livemode, card), 0), created, position);
CREATE INDEX feed_hashed_newest ON ONLY projections.feed
    (hash_record_extended(ROW (account, livemode), 0), created, position, ordinal) WITH (fillfactor = 100);
CREATE INDEX feed_hashed_by_type ON ONLY projections.feed
    (hash_record_extended(ROW (account, livemode, type), 0), created, position, ordinal)
    WITH (fillfactor = 100);

-- Drop what only older releases use: the earlier audit index, once it has been retired, and the indexes that
-- those of hashes supersede, where every generation has the latter. Returns the projections that are left.
CREATE FUNCTION projections.drop_superseded() RETURNS SETOF text LANGUAGE plpgsql
SET lock_timeout = '2s' AS $$
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
END $$;

-- In a database without events and without processes no older release runs.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger.events)
    AND NOT EXISTS (SELECT FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND application_name LIKE 'ledger %' AND application_name <> 'ledger migrate')
    THEN
        UPDATE ledger.served SET oldest = '0022';
        PERFORM projections.drop_superseded();
    END IF;
END $$;
"""

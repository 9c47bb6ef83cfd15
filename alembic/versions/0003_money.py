"""Money: the journal of postings, the list of balance transactions, and an index that finds each in the log.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The id of the balance transaction that an event made. An index over the log itself, not a column: it covers
-- events recorded before it existed, and those that a process of the previous release still appends
-- (docs/decisions/0013-balance-transactions-by-a-log-index.md).
-- Its predicate costs the events that move no money, nearly all, one search for ten bytes. What a
-- client wrote cannot match: quotes are escaped in JSON, and personal data is sealed.
CREATE FUNCTION ledger.movement_id(state bytea) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN convert_from(state, 'UTF8')::json #>> '{movement,id}';
CREATE INDEX events_movement ON ledger.events (ledger.movement_id(state))
    WHERE position('"movement":{'::bytea IN state) > 0;

-- The journal: one row per side of an entry, in minor units; positive is a debit, negative a credit.
-- `position` is that of the event that moved the money; the rows of an event sum to zero in each currency.
CREATE TABLE projections.postings (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    ordinal smallint NOT NULL,
    ledger_account text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL CONSTRAINT postings_amount_not_zero CHECK (amount <> 0),
    transaction text NOT NULL,
    source text NOT NULL,
    CONSTRAINT postings_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE UNIQUE INDEX postings_place ON projections.postings (generation, position, ordinal);

CREATE FUNCTION projections.refuse_unbalanced() RETURNS trigger LANGUAGE plpgsql AS $$
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
END $$;
-- Deferred: the rows of an entry come one after the other.
CREATE CONSTRAINT TRIGGER postings_balance AFTER INSERT OR UPDATE OR DELETE ON projections.postings
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION projections.refuse_unbalanced();

-- `fact` is the transaction as the folded object has it, as JSON: responses are rendered from it, by the
-- function that renders the copy inside the object. `position` is that of the event that made it.
CREATE TABLE projections.balance_transactions (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
    type text NOT NULL,
    currency text NOT NULL,
    source text NOT NULL,
    fact bytea NOT NULL,
    CONSTRAINT balance_transactions_key PRIMARY KEY (generation, id)
) PARTITION BY LIST (generation);
CREATE INDEX balance_transactions_newest
    ON projections.balance_transactions (account, livemode, created, position);
CREATE INDEX balance_transactions_by_source
    ON projections.balance_transactions (account, livemode, source, created, position);
CREATE INDEX balance_transactions_by_type
    ON projections.balance_transactions (account, livemode, type, created, position);
CREATE INDEX balance_transactions_by_currency
    ON projections.balance_transactions (account, livemode, currency, created, position);

ALTER TABLE projections.postings OWNER TO ledger_projector;
ALTER TABLE projections.balance_transactions OWNER TO ledger_projector;
GRANT SELECT ON projections.postings, projections.balance_transactions TO ledger_api;
"""

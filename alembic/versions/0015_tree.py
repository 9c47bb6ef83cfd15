"""The Merkle tree over the log: tiles, signed checkpoints, and the keys that sign them.

Revision ID: 0015
Revises: 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = r"""
SET LOCAL lock_timeout = '2s';

-- The log entry of a recorded event: the hash of its canonical form (ledger/tree/records.py). The form is
-- fixed for good: a column that is added to ledger.events later is not part of it.
-- Only immutable functions, so that Postgres inlines it: a call costs 4 µs, and three times that otherwise.
-- decode(…, 'escape') yields the text's UTF-8 bytes once its backslashes are doubled; convert_to is not
-- immutable.
CREATE FUNCTION ledger.record_text(content text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(int4send(octet_length(content)) || decode(replace(content, '\', '\\'), 'escape'),
                    '\xffffffff'::bytea)
$$;
CREATE FUNCTION ledger.record_digest(event ledger.events) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
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
$$;

-- The tree's tiles of height 8, as C2SP tlog-tiles defines them: 256 hashes, 8192 bytes, or fewer in the last
-- one of each level. Not compressed: hashes cannot be.
CREATE TABLE ledger.tree_tiles (
    level smallint NOT NULL,
    number bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT tree_tiles_key PRIMARY KEY (level, number),
    CONSTRAINT tree_tiles_whole_hashes CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0)
);
ALTER TABLE ledger.tree_tiles ALTER hashes SET STORAGE EXTERNAL;

-- The newest signed checkpoint. The process that holds the row's lock extends the tree. `note` is '' until
-- the first checkpoint; `error` says why sealing has stopped, null while it works.
CREATE TABLE ledger.tree_head (
    one boolean PRIMARY KEY DEFAULT true CONSTRAINT tree_head_is_one_row CHECK (one),
    size bigint NOT NULL,
    root bytea NOT NULL CONSTRAINT tree_head_root CHECK (length(root) = 32),
    note text NOT NULL,
    sealed_at timestamptz NOT NULL,
    error text
) WITH (fillfactor = 20);
INSERT INTO ledger.tree_head (size, root, note, sealed_at) VALUES (0, sha256(''), '', now());

-- Tiles and tree only grow: whatever was signed stays provable.
CREATE FUNCTION ledger.refuse_tree_change() RETURNS trigger LANGUAGE plpgsql AS $$
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
END $$;
CREATE TRIGGER tree_tiles_grow BEFORE UPDATE OR DELETE ON ledger.tree_tiles
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_tree_change();
CREATE TRIGGER tree_tiles_stay BEFORE TRUNCATE ON ledger.tree_tiles
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_tree_change();
CREATE TRIGGER tree_head_grows BEFORE UPDATE OR DELETE ON ledger.tree_head
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_tree_change();
CREATE TRIGGER tree_head_stays BEFORE TRUNCATE ON ledger.tree_head
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_tree_change();

-- The checkpoints that are kept, as C2SP tlog-checkpoint notes, with the signatures of the log and of
-- witnesses; `cosignatures` is the number of the latter.
CREATE TABLE ledger.checkpoints (
    size bigint CONSTRAINT checkpoints_size PRIMARY KEY,
    note text NOT NULL,
    cosignatures smallint NOT NULL DEFAULT 0,
    made_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX checkpoints_cosigned ON ledger.checkpoints (size) WHERE cosignatures > 0;

-- The keys that sign checkpoints, one current key for each algorithm. The private key is encrypted by a key
-- that is derived from the service key. `origin` is the log's name, the same in all rows.
CREATE TABLE ledger.signing_keys (
    id text CONSTRAINT signing_keys_id PRIMARY KEY,
    origin text NOT NULL,
    algorithm text NOT NULL CONSTRAINT signing_keys_algorithm CHECK (algorithm IN ('ed25519', 'ml-dsa-44')),
    public_key bytea NOT NULL,
    sealed_private_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    retired_reason text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX signing_keys_current ON ledger.signing_keys (algorithm) WHERE retired_at IS NULL;

GRANT SELECT, INSERT, UPDATE ON ledger.tree_tiles, ledger.checkpoints, ledger.signing_keys TO ledger_api;
GRANT SELECT, UPDATE ON ledger.tree_head TO ledger_api;
"""

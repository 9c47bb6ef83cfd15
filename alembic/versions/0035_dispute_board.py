"""The board of disputes: one row a dispute, without its evidence, read by status and due date.

Revision ID: 0035
Revises: 0034
"""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- `due_by` of a dispute that takes no answer is later than any time: so it comes last, and no page needs a
-- rule for nulls.
CREATE TABLE projections.dispute_board (
    generation integer NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    livemode boolean NOT NULL,
    created bigint NOT NULL,
    position bigint NOT NULL,
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
-- A column of the board is one status by due date. Its count and sums need nothing but these two indexes:
-- they have `generation`, by which each row is chosen, and the amounts.
CREATE INDEX dispute_board_due
    ON projections.dispute_board (generation, account, livemode, status, due_by, position)
    INCLUDE (currency, amount);
CREATE INDEX dispute_board_due_by_reason
    ON projections.dispute_board (generation, account, livemode, status, reason, due_by, position)
    INCLUDE (currency, amount);
CREATE INDEX dispute_board_newest ON projections.dispute_board
    (hash_record_extended(ROW (account, livemode, status), 0), created, position);
CREATE INDEX dispute_board_newest_by_reason ON projections.dispute_board
    (hash_record_extended(ROW (account, livemode, status, reason), 0), created, position);

ALTER TABLE projections.dispute_board OWNER TO ledger_projector;
GRANT SELECT ON projections.dispute_board TO ledger_api;
"""

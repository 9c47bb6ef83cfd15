"""The request log: counts of requests, and the requests that failed.

Revision ID: 0034
Revises: 0033
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

CREATE SCHEMA request_log;
GRANT USAGE ON SCHEMA request_log TO ledger_api;

-- One request, without parameters, body or secrets. `request_id` is that of the header. `owner`: the platform
-- of the account, or the account itself if it is connected to none, '' for a request without a valid key;
-- `grouped_by`: a digest of operation, status, code and param. A page has the newest first; the oldest rows
-- are deleted, by `number`.
CREATE TABLE request_log.requests (
    number bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT requests_key PRIMARY KEY,
    at timestamptz NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    livemode boolean NOT NULL,
    key text COLLATE "C",
    method text NOT NULL,
    path text NOT NULL,
    operation text COLLATE "C" NOT NULL,
    status smallint NOT NULL,
    milliseconds real NOT NULL,
    grouped_by text COLLATE "C" NOT NULL,
    error_type text,
    code text COLLATE "C",
    param text,
    message text
);
CREATE INDEX requests_of_owner ON request_log.requests (owner, livemode, at, number);
CREATE INDEX requests_of_account ON request_log.requests (account, livemode, at, number);
CREATE INDEX requests_of_group ON request_log.requests (owner, livemode, grouped_by, at, number);
CREATE INDEX requests_of_key ON request_log.requests (owner, livemode, key, at, number);
CREATE INDEX requests_by_id ON request_log.requests (request_id);

-- How many requests there were in a minute and in an hour (`period`, in seconds): of an owner in all, where
-- `account` is '', and of each account connected to it. `seconds` is the duration of all together,
-- `seconds_max` of the longest; `within_…ms`: how many took at most so long, and longer than the column
-- before says. `left_out`: those of which there is no row in request_log.requests, because there were too
-- many. `code` and `param` are those of the error, '' without.
CREATE TABLE request_log.counts (
    owner text COLLATE "C" NOT NULL,
    livemode boolean NOT NULL,
    period integer NOT NULL CONSTRAINT counts_period CHECK (period IN (60, 3600)),
    start timestamptz NOT NULL,
    account text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    status smallint NOT NULL,
    code text COLLATE "C" NOT NULL,
    param text COLLATE "C" NOT NULL,
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
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    CONSTRAINT counts_key PRIMARY KEY
        (owner, livemode, period, start, account, operation, status, code, param)
) WITH (fillfactor = 70);
CREATE INDEX counts_by_start ON request_log.counts (period, start);

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA request_log TO ledger_api;
"""

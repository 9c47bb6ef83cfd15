"""Service keys: by their ids, so that two are valid while one replaces the other; the secrets of purposes.

Revision ID: 0040
Revises: 0039
"""

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- The service keys that data of this database may be wrapped under. An id is a keyed hash of its key, which
-- cannot be found from it. The first process that has a key registers it (ledger/service_key.py); `ledger
-- secrets rotate` makes another one current and retires the one before. `is_root`: releases before have
-- derived the keys of their data from it, so who still has it can open old copies of that.
CREATE TABLE ledger.service_keys (
    id text COLLATE "C" CONSTRAINT service_keys_key PRIMARY KEY,
    state text NOT NULL CONSTRAINT service_keys_state CHECK (state IN ('accepted', 'current', 'retired')),
    is_root boolean NOT NULL DEFAULT false,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    current_at timestamptz,
    retired_at timestamptz,
    CONSTRAINT service_keys_retired CHECK ((state = 'retired') = (retired_at IS NOT NULL))
);
CREATE UNIQUE INDEX service_keys_one_current ON ledger.service_keys (state) WHERE state = 'current';

-- The secret of each purpose (client secrets, URLs, signatures), wrapped. Releases before derived them from
-- the service key, and these are the same: so they stay when that is replaced.
CREATE TABLE ledger.service_secrets (
    purpose text COLLATE "C" CONSTRAINT service_secrets_key PRIMARY KEY,
    wrapped bytea NOT NULL,
    wrapped_by text COLLATE "C" NOT NULL
        CONSTRAINT service_secrets_wrapped_by REFERENCES ledger.service_keys
);

-- The data subject whose key a chunk is sealed under: the file. NULL: a release before has sealed it.
ALTER TABLE ledger.file_chunks ADD COLUMN subject text;

GRANT SELECT, INSERT, UPDATE ON ledger.service_keys, ledger.service_secrets TO ledger_api;
GRANT UPDATE ON ledger.service_key TO ledger_api;
"""

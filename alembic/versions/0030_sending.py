"""Order per object, and endpoints that fail are tried less often.

Revision ID: 0030
Revises: 0029
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- Only deliveries to endpoints that get the Events of an object in order have an `object`: the stream of the
-- log that has its changes. One that waits for an earlier one of its object is due at 'infinity': so a claim
-- does not go through those that wait, however many there are.
ALTER TABLE webhooks.deliveries ADD COLUMN object text COLLATE "C";
CREATE INDEX deliveries_in_order ON webhooks.deliveries (endpoint, object, position, ordinal)
    WHERE state = 'pending' AND object IS NOT NULL;

-- The breaker of an endpoint that fails, by the one clock. It is open since `opened_at`, and counts as closed
-- once the endpoint does not fail. Nothing is sent while it is open, but one attempt, the probe, at or after
-- `probe_at`; `failed_probes` have failed. `probe_until`, by the database's own clock, is the lease of one
-- that is under way. `asked_until`: the receiver asked by Retry-After for no attempts before.
ALTER TABLE webhooks.endpoint_health
    ADD COLUMN opened_at timestamptz,
    ADD COLUMN probe_at timestamptz,
    ADD COLUMN failed_probes integer NOT NULL DEFAULT 0,
    ADD COLUMN probe_until timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN asked_until timestamptz;
CREATE INDEX endpoint_health_open ON webhooks.endpoint_health (probe_at)
    WHERE failing AND opened_at IS NOT NULL;

CREATE OR REPLACE VIEW reporting.webhook_deliveries AS
SELECT d.id, d.event, d.type, d.endpoint, d.account, d.livemode,
       to_timestamp(d.created::double precision) AS created_at, d.state, d.tries AS attempts,
       a.last_attempt_at,
       CASE WHEN d.state = 'pending' THEN nullif(d.due_at, 'infinity') END AS due_at
FROM webhooks.deliveries d
CROSS JOIN LATERAL (SELECT max(t.at) AS last_attempt_at FROM webhooks.attempts t WHERE t.delivery = d.id) a
WHERE d.state <> 'forwarded';
COMMENT ON COLUMN reporting.webhook_deliveries.due_at IS
    'When the next one is due; null: none is, or it waits for an earlier Event of the object.';
"""

"""Deliveries of webhooks can be looked up, and sent again.

Revision ID: 0028
Revises: 0027
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE.replace("%", "%%"))


UPGRADE = """
SET LOCAL lock_timeout = '2s';

-- A delivery that is retried or replayed becomes pending again, with the whole schedule of attempts before
-- it: `schedule_from` attempts were made before the schedule began. Attempts keep their numbers. It is one
-- more than `tries` if it was retried while an attempt was under way, which then does not count.
ALTER TABLE webhooks.deliveries ADD COLUMN schedule_from smallint NOT NULL DEFAULT 0;

-- Lists of deliveries, newest first: of an endpoint, and of it in some states. The state changes seldom, and
-- every change of it writes to all indexes anyway: it is in the condition of two others.
CREATE INDEX deliveries_newest ON webhooks.deliveries (endpoint, state, id);
-- What went to listeners of the Stripe CLI, which are no endpoints: it is listed by the account of the Event.
CREATE INDEX deliveries_forwarded ON webhooks.deliveries (account, livemode, id) WHERE state = 'forwarded';

-- Reports are about what is owed: what a developer has forwarded to a program is left out. The columns are as
-- before.
CREATE OR REPLACE VIEW reporting.webhook_deliveries AS SELECT
    d.id, d.event, d.type, d.endpoint, d.account, d.livemode, to_timestamp(d.created) AS created_at, d.state,
    d.tries AS attempts, a.last_attempt_at, CASE WHEN d.state = 'pending' THEN d.due_at END AS due_at
FROM webhooks.deliveries d
CROSS JOIN LATERAL (SELECT max(t.at) AS last_attempt_at FROM webhooks.attempts t WHERE t.delivery = d.id) a
WHERE d.state <> 'forwarded';
CREATE OR REPLACE VIEW reporting.webhook_attempts AS SELECT
    t.delivery, t.number, t.at, t.duration_ms, t.status, t.error,
    coalesce(t.status BETWEEN 200 AND 299, false) AS succeeded
FROM webhooks.attempts t
WHERE NOT EXISTS (SELECT FROM webhooks.deliveries d WHERE d.id = t.delivery AND d.state = 'forwarded');

COMMENT ON COLUMN reporting.webhook_deliveries.state IS
    'pending, delivered, failed (given up) or dropped (nobody is owed it any more).';
COMMENT ON COLUMN reporting.webhook_deliveries.attempts IS
    'How many attempts were due: one that was due while the endpoint was disabled was not made.';
"""

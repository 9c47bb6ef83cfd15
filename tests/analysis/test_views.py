"""The views of the schema `reporting`, against the public API: a random story, and each way of a dispute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
import stripe
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from ledger.domain.money import CURRENCIES, DAY_SECONDS, get_decimal_places
from tests.analysis.answers import to_major
from tests.api.conftest import check_money
from tests.api.service import Registrar, Service, ok
from tests.audit.story import MARK, STEPS, Story
from tests.conftest import Cluster

STEPS_AT_RANDOM = 40
SUBMIT = "submit"
DISPUTES = (
    "chargeback", "chargeback submit", "chargeback submit won", "chargeback lost",
    "chargeback lost appeal_opened", "chargeback submit lost appeal_opened appeal",
    "chargeback lost appeal_opened appeal won", "chargeback lost appeal_opened appeal lost",
    "inquiry", "inquiry submit", "inquiry inquiry_closed", "inquiry submit escalated",
    "inquiry submit escalated submit", "inquiry escalated submit won", "prevented", "compliance submit",
)  # fmt: skip
"""What happens to each: its kind, then the facts that the network reports and what the merchant submits."""
SUBMISSIONS: dict[str, Any] = {
    "submit": {"uncategorized_text": MARK},
    "appeal": {"appeal": {"card": {"reason_for_filing": MARK}}},
}
OUTCOMES = {
    "won": "won", "lost": "lost", "appeal_needs_response": "lost", "appeal_under_review": "lost",
}  # fmt: skip
"""By status. Other statuses have none."""
OPEN = {
    "needs_response", "under_review", "warning_needs_response", "warning_under_review",
    "appeal_needs_response", "appeal_under_review",
}  # fmt: skip
DAMAGED = [b"?", b"[]", b'"text"', b"\xff", b'{"amount":"much"}', b"{}", b'{"due_by":1e99}']
VIEWS = "SELECT table_name FROM information_schema.views WHERE table_schema = 'reporting' ORDER BY 1"


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    with cluster.create_database() as dsn, TemporaryDirectory() as directory:
        service = Service(dsn, Path(directory))
        yield service
        service.stop()
        check_money(dsn)


@pytest.fixture(scope="module")
def story(service: Service) -> Iterator[Story]:
    """An account with all kinds of objects, and an escalated inquiry over another amount."""
    registrar = Registrar(service.dsn)
    with httpx.Client(base_url=service.url, timeout=30) as http:
        story = Story(service, http, registrar, seed=14)
        for step in [*STEPS, *story.rng.choices(STEPS, k=STEPS_AT_RANDOM)]:
            with suppress(
                stripe.InvalidRequestError, stripe.CardError
            ):  # the object's state may not allow it
                step(story)
        for number, actions in enumerate(DISPUTES):
            play_dispute(story, f"{story.account.id}_{number}", *actions.split())
        pay_at_the_second_try(story)
        publish_intent(story)
        story.settle()
        yield story
        story.close()
        registrar.close()


def play_dispute(story: Story, name: str, kind: str, *actions: str) -> None:
    charge, dispute = f"ch_{name}", f"du_{name}"
    card = {"type": "card", "card": {"brand": "amex"}}
    reported = {"created": int(time.time()) - 2 * DAY_SECONDS}
    post_line(
        story, op="charge", id=charge, amount=5000, currency="kwd", payment_method_details=card, **reported
    )
    post_line(story, op="dispute", id=dispute, charge=charge, kind=kind, reason="duplicate", **reported)
    for number, action in enumerate(actions):
        if action in SUBMISSIONS:
            params: Any = {"evidence": SUBMISSIONS[action], "submit": True}
            story.client.v1.disputes.update(dispute, params)
        else:
            amount = {"amount": 3000} if action == "escalated" else {}
            reference = f"{action} {number} {name}"
            post_line(
                story, op="fact", dispute=dispute, fact=action, reference=reference, **amount, **reported
            )


def pay_at_the_second_try(story: Story) -> None:
    intents = story.client.v1.payment_intents
    params: Any = {"amount": 900, "currency": "eur", "payment_method_types": ["card"]}
    intent = intents.create(params).id
    intents.update(intent, {"amount": 800})
    with pytest.raises(stripe.CardError):
        intents.confirm(intent, {"payment_method": "pm_card_chargeDeclined"})
    intents.confirm(intent, {"payment_method": "pm_card_visa"})


def publish_intent(story: Story) -> None:
    path = f"/resources/payment_intent/pi_of_another_service_{story.account.id}"
    body = {"event_type": "payment_intent.created", "object": {"amount": 1, "currency": "usd"}}
    ok(story.operator.call("PUT", path, body))


def post_line(story: Story, **line: Any) -> None:
    headers = {"authorization": f"Bearer {story.operator.key}"}
    answer = story.raw.http.post("/internal/v1/import", content=msgspec.json.encode(line), headers=headers)
    assert "error" not in answer.text, answer.text


class Reports:
    """The views, as an analyst reads them."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        self.names = [name for (name,) in conn.execute(VIEWS.encode()).fetchall()]

    def read(self, view: str, key: str = "id") -> dict[str, dict[str, Any]]:
        """The rows of a view by id, of which each must have one."""
        with self.conn.cursor(row_factory=dict_row) as cur:
            query = sql.SQL("SELECT * FROM reporting.{} ORDER BY {}").format(
                *map(sql.Identifier, (view, key))
            )
            rows = cur.execute(query).fetchall()
        by_id = {row[key]: {name: _to_seconds(value) for name, value in row.items()} for row in rows}
        assert len(by_id) == len(rows), f"two rows of one object in {view}"
        return by_id


def _to_seconds(value: Any) -> Any:
    return int(value.timestamp()) if isinstance(value, datetime) else value


@pytest.fixture
def reports(service: Service, story: Story) -> Iterator[Reports]:
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        reports = Reports(conn)
        conn.execute("SET ROLE ledger_analyst")
        yield reports


@pytest.fixture(params=["applied", "rebuilt", "rolled back"])
def stage(request: pytest.FixtureRequest, service: Service, story: Story) -> str:
    """Afterwards there are as many rows of each object as there are generations."""
    if request.param == "rebuilt":
        with psycopg.connect(service.dsn) as reader:  # an analyst's open transaction holds up no rebuild
            reader.execute("SELECT count(*) FROM reporting.charges JOIN reporting.events USING (account)")
            service.run_command("projections", "rebuild", "--all")
    elif request.param == "rolled back":
        for projection in ("disputes", "charges", "balance_transactions"):
            service.run_command("projections", "rollback", projection)
    return str(request.param)


@pytest.mark.usefixtures("stage")
def test_the_views_show_what_the_api_shows(story: Story, reports: Reports) -> None:
    check_disputes(story, reports)
    check_charges(story, reports)
    check_payment_intents(story, reports)
    check_the_rest(story, reports)


def check_disputes(story: Story, reports: Reports) -> None:
    rows = reports.read("disputes")
    shown: dict[str, Any] = {each.id: each for each in list_all(story.client.v1.disputes)}
    assert rows.keys() == shown.keys()
    assert len({row["status"] for row in rows.values()}) == 10, "each status that a dispute can have"
    for dispute, row in rows.items():
        api = shown[dispute]
        details, moved = api.evidence_details, api.balance_transactions
        card = api.payment_method_details.card
        expected = {
            "status": api.status, "amount": api.amount, "currency": api.currency, "reason": api.reason,
            "charge": api.charge, "payment_intent": api.payment_intent, "opened_at": api.created,
            "evidence_due_at": details.due_by or None, "submissions": details.submission_count,
            "past_due": details.past_due if details.submission_count else None, "card_brand": card.brand,
            "network_reason_code": card.network_reason_code, "livemode": api.livemode,
            "amount_withdrawn": -sum(each.amount for each in moved), "fee": sum(each.fee for each in moved),
            "account": story.account.id, "open": api.status in OPEN, "outcome": OUTCOMES.get(api.status),
        }  # fmt: skip
        assert row | expected == row
        decided = api.status in OUTCOMES or api.status == "warning_closed"
        assert (row["decided_at"] is not None) == (row["decided_by"] is not None) == decided
        if api.status == "won":
            assert row["decided_at"] == moved[-1].created, "also when it was lost before"
        assert (row["evidence_submitted_at"] is None) == (details.submission_count == 0)
    last = {row["dispute"]: row["status"] for row in reports.read("dispute_history", "position").values()}
    assert last == {dispute: row["status"] for dispute, row in rows.items()}


def check_charges(story: Story, reports: Reports) -> None:
    shown = {each.id: each for each in list_all(story.client.v1.charges, expand=["data.balance_transaction"])}
    rows = reports.read("charges")
    assert rows.keys() == shown.keys()
    for charge, row in rows.items():
        api: Any = shown[charge]
        expected = {
            "amount": api.amount, "currency": api.currency, "status": api.status, "captured": api.captured,
            "amount_captured": api.amount_captured, "customer": api.customer, "created_at": api.created,
            "amount_refunded": api.amount_refunded if api.captured else 0, "failure_code": api.failure_code,
            "payment_intent": api.payment_intent, "transfer_group": api.transfer_group,
            "fee": api.balance_transaction.fee if api.balance_transaction else 0,
            "risk_level": api.outcome.risk_level if api.outcome else None, "livemode": False,
        }  # fmt: skip
        assert row | expected == row
        assert (row["disputes"] > 0) == api.disputed
        assert (row["captured_at"] is None) == (not api.captured)
        assert (row["ended_by"] == "expired") == (api.refunded and not api.captured)
    refunds = reports.read("refunds")
    shown = {each.id: each for each in list_all(story.client.v1.refunds)}
    assert refunds.keys() == shown.keys()
    for refund, row in refunds.items():
        api = shown[refund]
        expected = {
            "charge": api.charge, "amount": api.amount, "currency": api.currency, "reason": api.reason,
            "created_at": api.created, "payment_intent": api.payment_intent,
            "customer": rows[api.charge]["customer"],
        }  # fmt: skip
        assert row | expected == row


def check_payment_intents(story: Story, reports: Reports) -> None:
    shown = {each.id: each for each in list_all(story.client.v1.payment_intents)}
    rows = reports.read("payment_intents")
    assert rows.keys() == shown.keys()
    (published,) = (intent for intent, row in rows.items() if row["published"])
    assert (rows[published]["status"], rows[published]["amount"]) == (None, None)
    assert {row["last_failure_code"] for row in rows.values()} == {None, "card_declined"}
    for intent in rows.keys() - {published}:
        row = rows[intent]
        api: Any = shown[intent]
        is_open = api.status in ("requires_payment_method", "requires_confirmation")
        expected = {
            "status": "open" if is_open else api.status, "amount": api.amount, "currency": api.currency,
            "customer": api.customer, "latest_charge": api.latest_charge, "created_at": api.created,
            "canceled_at": api.canceled_at, "cancellation_reason": api.cancellation_reason,
            "amount_received": api.amount_received or None, "published": False,
            "failures": int(api.amount == 800),
        }  # fmt: skip
        assert row | expected == row


def check_the_rest(story: Story, reports: Reports) -> None:
    moved = reports.read("balance_transactions")
    shown = {each.id: each for each in list_all(story.client.v1.balance_transactions)}
    assert moved.keys() == shown.keys()
    for transaction, row in moved.items():
        api: Any = shown[transaction]
        expected = {
            "amount": api.amount, "fee": api.fee, "net": api.net, "currency": api.currency, "type": api.type,
            "source": api.source, "created_at": api.created, "available_at": api.available_on,
        }  # fmt: skip
        assert row | expected == row
    events = reports.read("events")
    for event in list_all(story.client.v1.events):
        row = events[event.id]
        assert (row["type"], row["created_at"]) == (event.type, event.created)
        assert (row["object"], row["request_id"]) == (
            event.data.object["id"],
            event.request and event.request.id,
        )
    customers = reports.read("customers")
    assert set(story.ids["customers"]) == customers.keys()
    assert set(story.ids["webhook_endpoints"]) == reports.read("webhook_endpoints").keys()
    sessions = reports.read("customer_sessions").values()
    assert {row["component"] for row in sessions} == {"pricing_table"}
    assert {row["customer"] for row in sessions} <= set(story.ids["customers"])
    changes = reports.read("changes", "position").values()
    published = {row["object"] for row in changes if row["topic"] == "resource.published"}
    assert published == reports.read("resources").keys() | {f"pi_of_another_service_{story.account.id}"}
    deleted = {row["object"] for row in changes if row["topic"] == "customer.deleted"}
    assert deleted == {customer for customer, row in customers.items() if row["deleted"]}
    assert [row["position"] for row in changes] == list(range(1, story.head + 1))


def test_no_view_shows_anything_personal_or_sealed(story: Story, reports: Reports) -> None:
    for view in reports.names:
        rows = reports.conn.execute(
            sql.SQL("SELECT v::text FROM reporting.{} v").format(sql.Identifier(view))
        )
        text = "\n".join(row for (row,) in rows)
        assert text or view in ("webhook_deliveries", "webhook_attempts"), view
        for secret in (MARK, "sealed", "example.com", story.account.secret[-12:]):
            assert secret not in text, (view, secret)


def test_positions_are_found_by_time(reports: Reports) -> None:
    records = reports.conn.execute(
        "SELECT position, recorded_at FROM reporting.changes ORDER BY 1"
    ).fetchall()
    ask = "SELECT reporting.position_at(%s), reporting.position_at(%s::timestamptz - interval '1 us')"
    for _, moment in records[:: len(records) // 20]:
        expected = (
            max(position for position, at in records if at <= moment),
            max((position for position, at in records if at < moment), default=0),
        )
        assert reports.conn.execute(ask.encode(), (moment, moment)).fetchone() == expected
    assert reports.conn.execute(ask.encode(), ("infinity", "1970-01-01")).fetchone() == (len(records), 0)


def test_amounts_are_shown_in_major_units_of_every_currency(reports: Reports) -> None:
    for currency in CURRENCIES:
        for amount in (1999, -5, 0):
            query = "SELECT reporting.major_units(%s::bigint, %s)"
            row = reports.conn.execute(query.encode(), (amount, currency)).fetchone()
            assert row == (to_major(amount, currency),)
            exponent = Decimal(row[0]).as_tuple().exponent
            assert exponent == -get_decimal_places(currency)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record_fails_no_query(
    service: Service, story: Story, reports: Reports, content: bytes
) -> None:
    """Its object has nulls, all others are as before."""
    dispute = f"du_{story.account.id}_0"
    before = reports.read("disputes")
    with psycopg.connect(service.dsn) as owner, owner.transaction(force_rollback=True):
        owner.execute("SET LOCAL session_replication_role = replica")  # the log is append-only
        damage = "UPDATE ledger.events SET state = %s WHERE originator_id = %s AND originator_version = 1"
        assert owner.execute(damage.encode(), (content, dispute)).rowcount == 1
        owner.execute("SET LOCAL ROLE ledger_analyst")
        damaged = Reports(owner)
        for view in damaged.names:
            owner.execute(sql.SQL("SELECT * FROM reporting.{}").format(sql.Identifier(view)))
        after = damaged.read("disputes")
    row = after.pop(dispute)
    assert (row["amount"], row["currency"]) == (None, None)
    assert before.pop(dispute)["amount"] == 5000
    assert after == before


def test_what_a_projection_has_not_applied_is_in_the_figures(
    service: Service, story: Story, reports: Reports
) -> None:
    """The projection may lag, or have parked the stream."""
    dispute = f"du_{story.account.id}_1"
    assert reports.read("disputes")[dispute]["status"] == "under_review"
    lost = """
        INSERT INTO ledger.events
        SELECT (e).* FROM (SELECT jsonb_populate_record(e, %s) AS e FROM ledger.events e
                           WHERE e.originator_id = %s AND e.originator_version = 1) AS copied"""
    fields = {"notification_id": story.head + 1, "originator_version": 3, "topic": "dispute.lost"}
    state = msgspec.json.encode({"at": 1, "cause": "network", "movement": None, "reference": None})
    with psycopg.connect(service.dsn) as owner, owner.transaction(force_rollback=True):
        owner.execute(lost.encode(), (Jsonb(fields | {"state": f"\\x{state.hex()}"}), dispute))
        row = Reports(owner).read("disputes")[dispute]
    assert (row["status"], row["outcome"], row["decided_by"]) == ("lost", "lost", "network")


def test_freshness_says_how_complete_the_figures_are(story: Story, reports: Reports) -> None:
    rows = reports.read("freshness", "projection")
    read_by_views = {
        "log", "customers", "charges", "refunds", "disputes", "payment_intents", "postings",
        "balance_transactions", "feed", "resources", "webhook_endpoints",
    }  # fmt: skip
    assert rows.keys() == read_by_views
    for row in rows.values():
        assert (row["position"], row["events_behind"], row["parked_streams"]) == (story.head, 0, 0)


def list_all(of_a_kind: Any, **params: Any) -> list[Any]:
    return list(of_a_kind.list({"limit": 100, **params}).auto_paging_iter())

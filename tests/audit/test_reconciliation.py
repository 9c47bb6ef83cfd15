"""`reconcile`: every story is in order, and each change of the log or of a read model is found and named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ledger.audit.reconciliation.reconcile import reconcile
from ledger.audit.reconciliation.report import Difference, Gap, Report
from ledger.domain import dispute_decisions, refund_decisions
from ledger.domain.charge import Charge
from ledger.domain.charge import evolve as charge_evolve
from ledger.domain.dispute import Dispute
from ledger.domain.dispute_decisions import DisputeReport, FactReport
from ledger.domain.money import Terms
from ledger.errors import LedgerError
from tests.conftest import Cluster
from tests.projections.histories import Author, catch_up, run_story

CREDITED = Terms(fee_credited_on_win=True, dispute_fees={"bhd": 5000})
CURRENCIES = ("usd", "jpy", "bhd", "isk")
APPEAL = {"appeal": {"card": {"reason_for_filing": "New facts."}}}
STEPS = st.tuples(
    st.sampled_from(
        ["charge", "refund", "open", "open", "won", "lost", "escalated", "appeal_opened", "inquiry_closed",
         "submit", "close", "capture"]
    ),
    st.integers(0, 5),
    st.integers(1, 9),
)  # fmt: skip


class Merchant:
    """Takes the steps of a story: partial refunds, several disputes of one charge, appeals, escalations over
    other amounts, in currencies of two, no and three decimals."""

    def __init__(self, author: Author) -> None:
        self.author = author

    async def step(self, kind: str, subject: int, size: int) -> None:
        author = self.author
        if kind == "charge":
            currency = CURRENCIES[subject % 4]
            await author.create_charge(amount=1000 * size + 20_000, currency=currency, capture=size % 4 != 0)
        elif kind == "capture":
            await author.run_command("capture_charge", subject, size)
        elif kind == "refund":
            await self.refund(author.pick(Charge, subject).id, 1000 * size)
        elif kind == "open":
            await self.open(author.pick(Charge, subject), ("chargeback", "inquiry")[size % 2], 1000 * size)
        elif kind == "submit":
            state = author.pick(Dispute, subject)
            evidence = APPEAL if state.status.startswith("appeal") else {"uncategorized_text": "text"}
            parameters = {"evidence": evidence, "submit": True}
            events = dispute_decisions.update(state, parameters, file_bytes={}, now=author.now)
            await author.append(events)
        elif kind == "close":
            await author.run_command("close_dispute", subject, size)
        else:
            await self.report(author.pick(Dispute, subject).id, kind, size)

    async def refund(self, charge_id: str, amount: int) -> None:
        author = self.author
        charge = author.states[charge_id]
        assert isinstance(charge, Charge)
        disputes = [each for each in author.states.values() if isinstance(each, Dispute)]
        events = refund_decisions.create(
            charge,
            {"amount": amount} if amount < 9000 else {},
            disputes=[each for each in disputes if each.charge == charge.id],
            refund_id=author._id("re"),
            txn_id=author._id("txn"),
            now=author.now,
        )
        refunded = charge_evolve(charge, events[1])
        disputes = [each for each in disputes if each.charge == charge.id]
        await author.append([*events, *refund_decisions.close_inquiries(refunded, disputes, now=author.now)])

    async def open(self, charge: Charge, kind: str, amount: int) -> None:
        author = self.author
        report = DisputeReport(kind=kind, amount=amount if amount < 8000 else None)
        ids = {"dispute_id": author._id("du"), "txn_id": author._id("txn")}
        events = dispute_decisions.open_dispute(charge, report, **ids, terms=CREDITED, now=author.now)
        await author.append(events)

    async def report(self, dispute_id: str, fact: str, size: int) -> None:
        author = self.author
        state = author.states[dispute_id]
        assert isinstance(state, Dispute)
        events = dispute_decisions.report_fact(
            state,
            FactReport(
                fact=fact, reference=author._id("ref"), amount=1000 * size if fact == "escalated" else None
            ),
            paid=author.find_paid_charge(state),
            txn_id=author._id("txn"),
            terms=CREDITED if size % 2 else Terms(),
            now=author.now,
        )
        await author.append(events)


async def run_reconcile(author: Author, **options: Any) -> tuple[Report, list[Difference | Gap]]:
    found: list[Difference | Gap] = []
    report = await reconcile(
        author.dsn,
        author.store.codec,
        author.store.clock,
        show=found.append,
        show_progress=lambda _: None,
        **options,
    )
    return report, found


@settings(
    max_examples=8,
    derandomize=True,
    phases=[Phase.generate],  # shrinking against a log that only grows takes minutes
)
@given(steps=st.lists(STEPS, min_size=30, max_size=60))
def test_every_story_is_in_order(dsn: str, steps: list[tuple[str, int, int]]) -> None:
    async def story(author: Author) -> None:
        merchant = Merchant(author)
        for subject in range(4):
            await merchant.step("charge", subject, 9)
        for step in steps:
            with suppress(LedgerError, LookupError):
                await merchant.step(*step)
        await catch_up(dsn)
        report, found = await run_reconcile(author)
        assert (found, report.is_success) == ([], True)
        assert report.entries == report.rows["balance_changes"] == report.rows["balance_transactions"] > 3
        sampled, found = await run_reconcile(author, sample=3)
        assert (found, sampled.is_success) == ([], True)
        assert sampled.streams <= 3

    run_story(dsn, story)


async def write_story(author: Author) -> None:
    """A charge with a refund and two lost disputes, the second of which was an inquiry over less and was won
    on appeal; a dispute in a currency without decimals that was won; a late capture in one with three."""
    merchant = Merchant(author)
    first = await author.create_charge(amount=20_000)
    await merchant.refund(first, 5000)
    lost = await author.open_dispute(first, "chargeback", 12_000)
    inquiry = await author.open_dispute(first, "inquiry", 6000)
    await author.report_fact(lost, "lost")
    await merchant.report(inquiry, "escalated", 8)
    for fact in ("lost", "appeal_opened"):
        await author.report_fact(inquiry, fact)
    await author.respond(inquiry, submit=True, **APPEAL)
    await author.report_fact(inquiry, "won")
    second = await author.create_charge(amount=30_000, currency="jpy")
    await merchant.report(await author.open_dispute(second), "won", 1)
    await author.create_charge(amount=1000, currency="bhd", capture=False)
    await author.run_command("capture_charge", 2, 0)


@pytest.fixture(scope="module")
def story_database(cluster: Cluster) -> Iterator[str]:
    """The name of a database with that story, applied to the projections. Tests change copies of it."""

    async def story(author: Author) -> None:
        await write_story(author)
        await catch_up(author.dsn)
        report, found = await run_reconcile(author)
        assert (found, report.is_success) == ([], True)

    with cluster.create_database() as dsn:
        with psycopg.connect(dsn) as conn:  # rows that SQL can change: not compressed
            conn.execute("UPDATE ledger.served SET oldest = '0010'")
        run_story(dsn, story)
        yield psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]  # type: ignore[misc]


EVENT = "(SELECT originator_id FROM ledger.events WHERE topic = '{}' ORDER BY notification_id LIMIT 1)"
OF_FIRST = "WHERE notification_id = (SELECT min(notification_id) FROM ledger.events WHERE topic = '{}')"
# A copy of an event at the end of its stream and of the log.
APPEND_COPY = """
INSERT INTO ledger.events
SELECT h.position + 1, e.originator_id,
       (SELECT max(originator_version) + 1 FROM ledger.events last
        WHERE last.originator_id = e.originator_id), topic, state, account, livemode, actor,
       request_id, idempotency_key, causation, customer, charge, payment_intent, h.recorded_at
FROM ledger.head h, ledger.events e WHERE topic = '{}' ORDER BY notification_id DESC LIMIT 1
"""


def replace_text(topic: str, old: str, new: str) -> str:
    """Change the stored text of the first event of a topic."""
    state = f"convert_to(regexp_replace(convert_from(state, 'UTF8'), '{old}', '{new}'), 'UTF8')"
    return f"UPDATE ledger.events SET state = {state} {OF_FIRST.format(topic)}"


CORRUPTIONS = {
    # read models
    "UPDATE projections.postings SET amount = amount + 1 WHERE position = 1 AND ordinal = 0":
        r"ch_\S+ amount of row txn_\w+/0 of postings 20000 20001",
    "UPDATE projections.postings SET ledger_account = 'network' WHERE position = 1 AND ordinal = 2":
        r"ch_\S+ ledger_account of row txn_\w+/2 of postings processing_fees network",
    "DELETE FROM projections.postings WHERE position = 1":
        r"ch_\S+ row txn_\w+/1 of postings a row none",
    "INSERT INTO projections.postings SELECT generation, id || 'x', account, livemode, created, position, "
    "ordinal + 7, ledger_account, currency, amount, transaction, source FROM projections.postings "
    "WHERE position = 1": r"ch_\S+ row txn_\w+/0x of postings none a row",
    "INSERT INTO projections.postings SELECT generation, id || 'x', account, livemode, created, 4, "
    "ordinal, ledger_account, currency, amount, transaction, source FROM projections.postings "
    "WHERE position = 1": r"ch_\S+ row txn_\w+/0x of postings none a row",
    "UPDATE projections.balance_transactions SET fact = (SELECT other.fact FROM "
    "projections.balance_transactions other WHERE other.type = 'charge' ORDER BY other.position LIMIT 1) "
    "WHERE type = 'refund'":
        r"re_\S+ amount in the fact of row txn_\w+ of balance_transactions -\d+ \d+",
    "UPDATE projections.balance_transactions SET source = 'ch_x' WHERE position = 1":
        r"ch_\S+ source of row txn_\w+ of balance_transactions ch_\w+ ch_x",
    "DELETE FROM projections.balance_transactions WHERE type = 'refund'":
        r"re_\S+ row txn_\w+ of balance_transactions a row none",
    "INSERT INTO projections.balance_transactions SELECT generation, 'txn_x', account, livemode, created, "
    "position, type, currency, source, fact FROM projections.balance_transactions WHERE position = 1":
        r"ch_\S+ row txn_x of balance_transactions none a row",
    "UPDATE projections.balance_changes SET net = net + 1 WHERE position = 1":
        r"ch_\S+ net of row txn_\w+ of balance_changes \d+ \d+",
    "DELETE FROM projections.balance_changes WHERE position = 1":
        r"acct_projections balance and pending part in usd, test mode .*",
    "INSERT INTO projections.balance_changes SELECT generation, 'txn_x', account, livemode, created, "
    "position, currency, net, available_on FROM projections.balance_changes WHERE position = 1":
        r"acct_projections row txn_x of balance_changes none a row",
    # the log
    replace_text("charge.succeeded", '"amount":20000,"fee"', '"amount":19999,"fee"'):
        r"ch_\S+ captured amount 20000 19999",
    replace_text("charge.captured", '"currency":"bhd"', '"currency":"usd"'):
        r"ch_\S+ currency of the movement bhd usd",
    replace_text("charge.refunded", '"amount":-5000', '"amount":-25000'):
        r"ch_\S+ refunded amount at most 20000 25000",
    replace_text("charge.refunded", '"fee":0', '"fee":1'): r"ch_\S+ fee of a refund 0 1",
    replace_text("refund.created", '"amount":5000', '"amount":4000'): r"re_\S+ refunded amount 4000 5000",
    replace_text("charge.disputed", '"amount":12000', '"amount":11000'):
        r"du_\S+ amount on charge ch_\w+ 12000 11000",
    replace_text("dispute.opened", '"amount":-12000', '"amount":-11000'):
        r"du_\S+ withdrawn amount 12000 11000",
    replace_text("dispute.opened", '"fee":1500', '"fee":-1'): r"du_\S+ dispute fee 0 or more -1",
    replace_text("dispute.won", '"fee":0', '"fee":7'): r"du_\S+ fee that the won dispute returns .* 7",
    replace_text("dispute.won", '"amount":3000', '"amount":8000'):
        r"du_\S+ amount that the won dispute returns 3000 8000",
    replace_text("dispute.lost", '"movement":null', '"movement":{"id":"txn_y","amount":9,"fee":0,'
                 '"currency":"usd","created":1,"available_on":1}'):
        r"du_\S+ amount that the lost dispute returns 0 9",
    f"UPDATE ledger.events SET account = 'acct_2' {OF_FIRST.format('dispute.lost')}":
        r"du_\S+ account and mode \('acct_projections', False\) \('acct_2', False\)",
    f"UPDATE ledger.events SET topic = 'dispute.conceded' {OF_FIRST.format('dispute.appeal_opened')}":
        r"du_\S+ cannot be read: cannot_be_folded",
    f"DELETE FROM ledger.events {OF_FIRST.format('charge.refunded')}": r"re_\S+ movement on charge ch_.*",
    f"DELETE FROM ledger.events {OF_FIRST.format('charge.disputed')}": r"ch_\S+ version \d+ \d+",
    f"DELETE FROM ledger.events {OF_FIRST.format('refund.created')}":
        r"ch_\S+ events of the object it names re_\w+ none",
    f"DELETE FROM ledger.events {OF_FIRST.format('dispute.inquiry_escalated')}":
        r"du_\S+ status before dispute.lost .* warning_needs_response",
    f"DELETE FROM ledger.events WHERE originator_id = {EVENT.format('dispute.won')}":
        r"ch_\S+ events of the object it names du_\w+ none",
    f"DELETE FROM ledger.events WHERE originator_id = {EVENT.format('charge.disputed')}":
        r"du_\S+ amount on charge ch_\w+ 12000 None",
    "DELETE FROM ledger.events WHERE notification_id = 2": r"log recorded events \d+ \d+",
    APPEND_COPY.format("charge.refunded"): r"ch_\S+ refund each refund once re_\w+",
    APPEND_COPY.format("dispute.won"): r"du_\S+ status before dispute.won .* won",
    APPEND_COPY.format("charge.captured"): r"ch_\S+ cannot be read: cannot_be_opened",
}  # fmt: skip
"""By statement of the database's superuser: the object, what differs, the expected and the found value."""


@pytest.mark.parametrize("statement", CORRUPTIONS)
def test_each_change_behind_the_ledgers_back_is_found(
    cluster: Cluster, story_database: str, statement: str
) -> None:
    async def story(author: Author) -> None:
        report, found = await run_reconcile(author)
        lines = [" ".join(map(str, each[1:])) for each in found]
        assert any(re.fullmatch(CORRUPTIONS[statement], line) for line in lines), lines
        assert not report.is_success

    with cluster.create_database(story_database) as dsn:
        with psycopg.connect(dsn, options="-c session_replication_role=replica") as conn:
            for each in statement.split(";\n"):
                changed = conn.execute(each.encode())
                assert changed.rowcount > 0
        run_story(dsn, story)


def test_what_cannot_be_reconciled_is_no_success(cluster: Cluster, dsn: str, story_database: str) -> None:
    async def reconcile_nothing(author: Author) -> None:
        report, found = await run_reconcile(author)
        assert (report.streams, report.is_success) == (0, False)
        assert {each.object for each in found} == {"postings", "balance_transactions", "balance_changes"}

    async def reconcile_parked(author: Author) -> None:
        report, found = await run_reconcile(author)
        assert (report.is_success, report.differences) == (False, 0)
        assert [each[2] for each in found] == ["is parked in postings"]
        report, found = await run_reconcile(author, account="acct_of_others")
        assert (found, report.streams, report.is_success) == ([], 0, False)

    run_story(dsn, reconcile_nothing)
    with cluster.create_database(story_database) as copy:
        with psycopg.connect(copy, options="-c session_replication_role=replica") as conn:
            conn.execute(
                "INSERT INTO projections.parked (projection, generation, stream, position, error)"
                " SELECT 'postings', generation, originator_id, notification_id, 'handler_raised'"
                " FROM projections.live, ledger.events WHERE projection = 'postings'"
                " AND topic = 'dispute.won' ORDER BY notification_id LIMIT 1"
            )
            conn.execute(
                "DELETE FROM projections.postings WHERE position = (SELECT position FROM projections.parked)"
            )
        run_story(copy, reconcile_parked)

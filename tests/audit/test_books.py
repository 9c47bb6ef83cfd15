"""The trial balance and the journal at every moment, whatever state the projections are in."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest

from ledger.audit.auditor import Auditor
from ledger.audit.money.bounds import Bounds
from ledger.audit.money.journal import JournalQuery, list_postings
from ledger.audit.money.trial_balance import TrialBalances
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.refund import Refund
from ledger.errors import InvalidParameter
from ledger.postgres.connections import open_connection
from ledger.queries.context import QueryContext
from ledger.store.log import Recorded, read_log
from projections.projection import Projection, Row
from projections.read_models.catalog import PROJECTIONS
from tests.projections.corruption import corrupt_event
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.projections.queries import open_queries

AUDITOR = Auditor(ACCOUNT, False, "key_test")
COMMANDS = (
    "create_charge", "capture_charge", "refund_charge", "update_charge", "open_dispute", "respond",
    "close_dispute", "report_fact", "create_customer",
)  # fmt: skip
Expected = dict[tuple[str, str], list[int]]


async def write_history(author: Author, rng: random.Random, count: int) -> None:
    for subject in range(4):
        await author.run_command("create_charge", subject, 12)  # paid, in each currency
    for _ in range(count):
        await author.run_command(rng.choice(COMMANDS), rng.randrange(12), rng.randrange(31))


def list_entries(recorded: Recorded) -> list[tuple[str, str, int]]:
    """The postings of an event, from the meaning of its movement alone."""
    movement = getattr(recorded.event, "movement", None)
    if movement is None:
        return []
    amount, fee, currency = movement["amount"], movement["fee"], movement["currency"]
    is_dispute = recorded.event.originator_id.startswith("du_")
    sides = {"network": amount, "merchant_balance": fee - amount}
    sides["dispute_fees" if is_dispute else "processing_fees"] = -fee
    return [(account, currency, side) for account, side in sides.items() if side]


def add_up(log: Sequence[Recorded], upto: int) -> Expected:
    sums: Expected = {}
    for recorded in log:
        if recorded.position <= upto:
            for account, currency, side in list_entries(recorded):
                sums.setdefault((account, currency), [0, 0])[side < 0] += abs(side)
    return sums


async def read_whole_log(author: Author) -> list[Recorded]:
    async with open_connection(author.dsn, "ledger_api", name="test") as conn:
        return await read_log(conn, author.store.codec, 0, 100_000)


def parking(stream: str, names: Sequence[str]) -> list[Projection]:
    """All projections; the named ones park the stream at its next event."""

    def break_for_stream(projection: Projection) -> Projection:
        def apply(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
            assert after.id != stream
            return projection.apply(before, recorded, after)

        return dataclasses.replace(projection, apply=apply)

    return [break_for_stream(each) if each.name in names else each for each in PROJECTIONS]


async def check_books(queries: QueryContext, log: Sequence[Recorded], positions: Sequence[int]) -> None:
    balances = TrialBalances(queries, slice_positions=16)
    for position in [*positions, *positions[::-1]]:
        trial = await balances.compute(AUDITOR, f"position:{position}")
        assert {key: list(sums) for key, sums in trial.books.items()} == add_up(log, position), position
        document = trial.to_json()
        assert document["as_of"]["position"] == position
        assert all(total["balance"] == 0 for total in document["totals"])


async def read_journal(queries: QueryContext, **query: Any) -> list[dict[str, Any]]:
    """All pages; no entry is torn between two."""
    data: list[dict[str, Any]] = []
    more, after = True, None
    while more:
        page = await list_postings(
            queries, AUDITOR, JournalQuery(**query, starting_after=after), tail_positions_max=5
        )
        seen = {row["position"] for row in data}
        assert seen.isdisjoint(row["position"] for row in page["data"])
        assert not page["unreadable"]
        data += page["data"]
        more, after = page["has_more"], page["next_position"]
    return data


def test_the_books_are_exact_at_every_moment_however_far_the_projections_are(dsn: str) -> None:
    async def story(author: Author) -> None:
        rng = random.Random(7)
        async with open_queries(author) as queries:
            await write_history(author, rng, 40)
            log = await read_whole_log(author)
            await check_books(queries, log, range(0, len(log), 7))  # no projection has ever run
            charge = next(state for state in author.states.values() if isinstance(state, Charge))
            names = ("postings", "balance_changes")
            await catch_up(dsn, projections=parking(charge.id, names))
            await author.run_command("refund_charge", 0, 1)
            await catch_up(dsn)
            await write_history(author, rng, 30)  # which the projections do not have
            log = await read_whole_log(author)
            await check_books(queries, log, range(len(log) + 1))
            expected = [(recorded.position, *entry) for recorded in log for entry in list_entries(recorded)]
            assert {charge.id} < {recorded.event.originator_id for recorded in log}
            for order, limit in (("asc", 1), ("asc", 7), ("desc", 100), ("desc", 5)):
                listed = [
                    (
                        row["position"],
                        row["ledger_account"],
                        row["currency"],
                        row["amount"] if row["side"] == "debit" else -row["amount"],
                    )
                    for row in await read_journal(queries, order=order, limit=limit)
                ]
                assert sorted(listed) == sorted(expected)
                assert [row[0] for row in listed] == sorted(
                    (row[0] for row in listed), reverse=order == "desc"
                )

    run_story(dsn, story)


def test_the_journal_is_traced_to_its_events_and_filtered(dsn: str) -> None:
    async def story(author: Author) -> None:
        charge = await author.create_charge()  # 1
        await author.run_command("refund_charge", 0, 0)  # 2, 3
        dispute = await author.open_dispute(charge)  # 4, 5
        await author.report_fact(dispute, "won")  # 6
        await author.create_charge(currency="jpy")  # 7
        refund = next(state for state in author.states.values() if isinstance(state, Refund))
        state = author.states[dispute]
        assert isinstance(state, Dispute)
        await catch_up(dsn)
        async with open_queries(author) as queries:

            async def list_positions(**query: Any) -> list[tuple[int, str]]:
                rows = await read_journal(queries, order="asc", **query)
                return sorted({(row["position"], row["type"]) for row in rows})

            (row, *_) = await read_journal(queries, object=dispute, ledger_account="network", order="asc")
            assert (row["position"], row["version"], row["type"]) == (5, 1, "dispute.opened")
            assert (row["side"], row["amount"], row["currency"]) == ("credit", 2000, "usd")
            assert (row["charge"], row["dispute"], row["source"]) == (charge, dispute, dispute)
            assert row["balance_transaction"] == state.balance_transactions[0]["id"]
            assert (row["request_id"], row["stream"]) == ("req_3", dispute)
            assert row["actor"] == {"id": "key_test", "name": None, "key": None}

            opened, won = (5, "dispute.opened"), (6, "dispute.won")
            refunded = next(position for position, _ in await list_positions(object=refund.id))
            assert refunded in (2, 3)
            of_charge = [(1, "charge.succeeded"), (refunded, "charge.refunded"), opened, won]
            assert await list_positions(object=charge) == of_charge
            assert await list_positions(object=dispute) == [opened, won]
            assert await list_positions(transaction=state.balance_transactions[1]["id"]) == [won]
            assert await list_positions(transaction=refund.balance_transaction["id"], object=charge) == [
                of_charge[1]
            ]
            assert await list_positions(transaction="txn_x") == []
            assert await list_positions(object="nothing") == []
            assert await list_positions(currency="JPY") == [(7, "charge.succeeded")]
            assert await list_positions(ledger_account="dispute_fees") == [opened]
            for bounds in (
                Bounds(begin="position:5", end="position:6"),
                Bounds(at="position:6", position={"gt": 4}),
                Bounds(position={"gte": 5, "lt": 7}),
            ):
                assert await list_positions(bounds=bounds) == [opened, won]
            times = {"gte": "2001-01-01", "lte": "2999-01-01"}
            assert len(await list_positions(bounds=Bounds(time=times))) == 5
            for bounds, param in (
                (Bounds(at="yesterday"), "at"),
                (Bounds(at="position:8"), "at"),
                (Bounds(begin="position:6", end="position:5"), "to"),
                (Bounds(begin="2002-01-02", end="2002-01-01"), "to"),
                (Bounds(time={"lt": "x"}), "time[lt]"),
            ):
                with pytest.raises(InvalidParameter) as refused:
                    await read_journal(queries, bounds=bounds)
                assert refused.value.param == param

    run_story(dsn, story)


def test_a_record_that_cannot_be_read_is_named_and_left_out(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        dispute = await author.open_dispute(await author.create_charge())
        await author.report_fact(dispute, "lost")  # moves nothing
        await author.create_customer()
        for position, state in ((4, b'{"movement":{"id":"txn_1"}}'), (6, b"?")):
            await corrupt_event(dsn, position, state)
        await catch_up(dsn)
        async with open_queries(author) as queries:
            balances = TrialBalances(queries, slice_positions=1)
            for _ in range(2):
                trial = await balances.compute(AUDITOR, None)
                assert [(each.position, each.object) for each in trial.unreadable] == [(4, dispute)]
            assert trial.to_json()["unreadable"] == [
                {"position": 4, "object": dispute, "reason": "cannot_be_upcast"}
            ]
            assert trial.books["network", "usd"] == (4000, 0)
            page = await list_postings(queries, AUDITOR, JournalQuery())
            assert {row["position"] for row in page["data"]} == {1, 2}
            assert [each["position"] for each in page["unreadable"]] == [4]

    run_story(dsn, story)

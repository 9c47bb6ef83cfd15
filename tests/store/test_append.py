"""Appending (invariants 1 and 2): gapless positions, each command whole or not at all, and alone."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest

from ledger.call import Cause
from ledger.domain import customer_session
from ledger.domain.money import Terms
from ledger.errors import QueueFull, Unavailable
from ledger.store.codec import evolve
from ledger.store.journal import Append, Change, VersionConflict
from ledger.store.replies import IdempotencyKeyUsed, Reply, read_body
from tests.store.stores import (
    CAUSE,
    NOW,
    FixedClock,
    blocked_appends,
    check_gapless,
    create_change,
    create_customer,
    fetch_rows,
    head_locked,
    open_store,
    read_positions,
    rename_change,
    rename_customer,
    wait_until,
    with_reply,
)

Outcomes = list[int | BaseException]


def append_together(dsn: str, *commands: Append, **settings: Any) -> Outcomes:
    """What comes of commands submitted at once."""

    async def main() -> Outcomes:
        async with open_store(dsn, **settings) as store:
            return await asyncio.gather(*map(store.journal.append, commands), return_exceptions=True)

    return asyncio.run(main())


def kinds(outcomes: Outcomes) -> list[Any]:
    return [outcome if isinstance(outcome, int) else type(outcome) for outcome in outcomes]


def test_positions_follow_each_other_from_one(dsn: str) -> None:
    assert append_together(dsn, *(create_customer(f"cus_{n}") for n in range(5))) == [1, 2, 3, 4, 5]
    assert read_positions(dsn) == [(n + 1, f"cus_{n}", 1) for n in range(5)]


def test_the_position_returned_is_that_of_the_commands_last_event(dsn: str) -> None:
    first = create_change("cus_1")
    two = Append(CAUSE, [first, rename_change(first.state, "Grace")])
    assert append_together(dsn, create_customer("cus_0"), two, create_customer("cus_2")) == [1, 3, 4]


def test_a_command_without_events_returns_the_position_of_the_log(dsn: str) -> None:
    assert append_together(dsn, create_customer("cus_1"), create_customer("cus_2")) == [1, 2]
    assert append_together(dsn, Append(CAUSE, [], expected_versions={"cus_1": 1})) == [2]


def test_a_version_that_is_taken_is_refused(dsn: str) -> None:
    assert append_together(dsn, create_customer("cus_1")) == [1]
    assert kinds(append_together(dsn, create_customer("cus_1", name="Grace"))) == [VersionConflict]
    assert read_positions(dsn) == [(1, "cus_1", 1)]


def test_a_version_beyond_the_next_is_refused(dsn: str) -> None:
    first = create_change("cus_1")
    second = rename_change(first.state, "Grace")
    assert kinds(append_together(dsn, Append(CAUSE, [second]))) == [VersionConflict]
    assert append_together(dsn, Append(CAUSE, [first])) == [1]
    assert kinds(append_together(dsn, Append(CAUSE, [rename_change(second.state, "Ida")]))) == [
        VersionConflict
    ]
    assert append_together(dsn, Append(CAUSE, [second])) == [2]


def test_a_guarded_stream_must_not_have_moved(dsn: str) -> None:
    first = create_change("cus_1")
    append_together(dsn, Append(CAUSE, [first]))
    outcomes = append_together(
        dsn,
        create_customer("cus_2", guards={"cus_1": 0}),
        create_customer("cus_3", guards={"cus_1": 1}),
        create_customer("cus_4", guards={"cus_1": 2}),
        create_customer("cus_5", guards={"cus_9": 0}),
        create_customer("cus_6", guards={"cus_9": 1}),
    )
    assert kinds(outcomes) == [VersionConflict, 2, VersionConflict, 3, VersionConflict]
    assert read_positions(dsn) == [(1, "cus_1", 1), (2, "cus_3", 1), (3, "cus_5", 1)]


def test_several_streams_are_written_together_or_not_at_all(dsn: str) -> None:
    append_together(dsn, create_customer("cus_1"))
    outcomes = append_together(
        dsn,
        Append(CAUSE, [create_change("cus_2"), create_change("cus_1"), create_change("cus_3")]),
        Append(CAUSE, [create_change("cus_4"), create_change("cus_5")]),
    )
    assert kinds(outcomes) == [VersionConflict, 3]
    assert read_positions(dsn) == [(1, "cus_1", 1), (2, "cus_4", 1), (3, "cus_5", 1)]


def test_of_two_commands_on_one_stream_in_a_batch_the_first_is_accepted(dsn: str) -> None:
    outcomes = append_together(
        dsn,
        create_customer("cus_1", name="Ada"),
        create_customer("cus_1", name="Grace"),
        create_customer("cus_2"),
    )
    assert kinds(outcomes) == [1, VersionConflict, 2]
    check_gapless(read_positions(dsn))


def test_a_command_after_a_refused_one_is_tried(dsn: str) -> None:
    first = create_change("cus_1")
    append_together(dsn, Append(CAUSE, [first]))
    outcomes = append_together(
        dsn,
        create_customer("cus_1"),
        rename_customer(first.state, "Grace"),
        rename_customer(first.state, "Ida"),
        create_customer("cus_2", guards={"cus_1": 1}),
        create_customer("cus_3"),
    )
    # The neighbour that touches nothing of theirs is in the first transaction, the others follow.
    assert kinds(outcomes) == [VersionConflict, 3, VersionConflict, VersionConflict, 2]
    check_gapless(read_positions(dsn))


def test_of_two_commands_with_one_idempotency_key_the_first_is_accepted(dsn: str) -> None:
    outcomes = append_together(
        dsn,
        create_customer("cus_1", **with_reply("key", "first")),
        create_customer("cus_2", **with_reply("key", "second")),
        create_customer("cus_3", **with_reply("another")),
    )
    assert kinds(outcomes) == [1, IdempotencyKeyUsed, 2]
    assert kinds(append_together(dsn, create_customer("cus_4", **with_reply("key")))) == [IdempotencyKeyUsed]
    rows = fetch_rows(dsn, "SELECT key, body, compressed FROM ledger.replies ORDER BY key")
    assert {key: read_body(*stored) for key, *stored in rows} == {"another": "{}", "key": "first"}
    assert [stream for _, stream, _ in read_positions(dsn)] == ["cus_1", "cus_3"]


def test_one_idempotency_key_is_free_in_another_mode_and_account(dsn: str) -> None:
    reply = Reply("print", 200, "{}")
    causes = [
        Cause(account, livemode, "key_1", "req_1", "key")
        for account, livemode in itertools.product(("acct_1", "acct_2"), (False, True))
    ]
    commands = [create_customer(f"cus_{n}", cause=cause, reply=reply) for n, cause in enumerate(causes)]
    assert append_together(dsn, *commands) == [1, 2, 3, 4]


def test_a_key_used_by_a_refused_command_stays_free(dsn: str) -> None:
    append_together(dsn, create_customer("cus_1"))
    outcomes = append_together(
        dsn, create_customer("cus_1", **with_reply("key")), create_customer("cus_2", **with_reply("key"))
    )
    assert kinds(outcomes) == [VersionConflict, 2]


def test_a_reply_has_the_position_of_its_commands_last_event(dsn: str) -> None:
    """Also when commands before it in its batch were refused: their events got no positions."""
    append_together(dsn, create_customer("cus_taken"))
    first = create_change("cus_2")
    commands = [
        create_customer("cus_0", **with_reply("one")),
        create_customer("cus_taken", **with_reply("refused")),
        Append(CAUSE, [create_change("cus_1"), create_change("cus_taken")]),
        Append(changes=[first, rename_change(first.state, "Grace")], **with_reply("two")),
        Append(changes=[], **with_reply("nothing")),
        create_customer("cus_3", **with_reply("three")),
    ]
    outcomes = append_together(dsn, *commands)
    assert kinds(outcomes) == [2, VersionConflict, VersionConflict, 4, 4, 5]
    stored = fetch_rows(dsn, "SELECT key, position FROM ledger.replies ORDER BY key")
    assert stored == [("nothing", None), ("one", 2), ("three", 5), ("two", 4)]


@pytest.mark.parametrize(
    "unfit",
    [
        pytest.param(CAUSE._replace(request_id="req\x00"), id="a NUL, which Postgres has no text for"),
        pytest.param(CAUSE._replace(account=None), id="no account, which a constraint refuses"),  # type: ignore[arg-type]
        pytest.param(CAUSE._replace(request_id="\ud800"), id="half a character, which no JSON can hold"),
    ],
)
def test_a_command_that_cannot_be_written_fails_alone(dsn: str, unfit: Cause) -> None:
    outcomes = append_together(
        dsn,
        create_customer("cus_1"),
        create_customer("cus_2", cause=unfit),
        create_customer("cus_3", **with_reply("key")),
        create_customer("cus_4"),
    )
    assert not isinstance(outcomes[1], int | Unavailable)
    assert [outcomes[0], *outcomes[2:]] == [1, 2, 3]
    assert read_positions(dsn) == [(1, "cus_1", 1), (2, "cus_3", 1), (3, "cus_4", 1)]


def test_waiting_commands_are_committed_in_one_transaction(dsn: str) -> None:
    async def main() -> list[int]:
        async with open_store(dsn) as store:
            sizes: list[int] = []
            store.journal.on_append = lambda commands, rejected, seconds, queued: sizes.append(commands)
            async with head_locked(dsn):
                first = asyncio.create_task(store.journal.append(create_customer("cus_first")))
                await wait_until(lambda: blocked_appends(dsn) == 1)
                others = [
                    asyncio.create_task(store.journal.append(create_customer(f"cus_{n}"))) for n in range(50)
                ]
                await wait_until(lambda: store.journal.queue_length == 50)
            assert await asyncio.gather(first, *others) == list(range(1, 52))
            return sizes

    assert asyncio.run(main()) == [1, 50]
    assert fetch_rows(dsn, "SELECT count(DISTINCT xmin::text) FROM ledger.events") == [(2,)]


def test_a_batch_has_a_size_limit(dsn: str) -> None:
    append_together(dsn, *(create_customer(f"cus_{n}") for n in range(25)), append_batch_max=10)
    assert fetch_rows(dsn, "SELECT count(DISTINCT xmin::text) FROM ledger.events") == [(3,)]


def test_callers_beyond_the_queue_limit_are_refused_at_once(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn, append_queue_max=3) as store:
            async with head_locked(dsn):
                waiting = [asyncio.create_task(store.journal.append(create_customer("cus_0")))]
                await wait_until(lambda: blocked_appends(dsn) == 1)
                waiting += [
                    asyncio.create_task(store.journal.append(create_customer(f"cus_{n}"))) for n in (1, 2, 3)
                ]
                await asyncio.sleep(0)
                with pytest.raises(QueueFull):
                    await store.journal.append(create_customer("cus_4"))
            assert await asyncio.gather(*waiting) == [1, 2, 3, 4]
            assert await store.journal.append(create_customer("cus_4")) == 5

    asyncio.run(main())


def test_an_append_cancelled_while_it_waits_is_not_sent_and_one_under_way_is_not_broken_off(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            async with head_locked(dsn):
                sent = asyncio.create_task(store.journal.append(create_customer("cus_0")))
                await wait_until(lambda: blocked_appends(dsn) == 1)
                queued = [
                    asyncio.create_task(store.journal.append(create_customer(f"cus_{n}"))) for n in (1, 2, 3)
                ]
                await asyncio.sleep(0)
                for task in (sent, queued[1]):
                    task.cancel()
                await asyncio.sleep(0)
            outcomes = await asyncio.gather(sent, *queued, return_exceptions=True)
            assert kinds(outcomes) == [asyncio.CancelledError, 2, asyncio.CancelledError, 3]
            assert await store.journal.append(create_customer("cus_4")) == 4
            assert await store.streams.read("cus_0") is not None
            assert await store.streams.read("cus_2") is None

    asyncio.run(main())
    check_gapless(read_positions(dsn))


def test_closing_commits_submitted_commands_and_accepts_no_more(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            async with head_locked(dsn):
                tasks = [asyncio.create_task(store.journal.append(create_customer("cus_0")))]
                await wait_until(lambda: blocked_appends(dsn) == 1)
                tasks += [
                    asyncio.create_task(store.journal.append(create_customer(f"cus_{n}"))) for n in (1, 2)
                ]
                await asyncio.sleep(0)
                closing = asyncio.create_task(store.journal.close())
                await asyncio.sleep(0)
                with pytest.raises(Unavailable):
                    await store.journal.append(create_customer("cus_3"))
            await closing
            assert await asyncio.gather(*tasks) == [1, 2, 3]

    asyncio.run(main())


def test_recorded_at_never_decreases_although_clocks_go_back(dsn: str) -> None:
    async def main() -> None:
        clock, behind = FixedClock(NOW), FixedClock(NOW - 7200)
        async with open_store(dsn, clock=clock) as store, open_store(dsn, clock=behind) as other:
            await store.journal.append(create_customer("cus_1"))
            clock.at = NOW - 3600
            await store.journal.append(create_customer("cus_2"))
            await other.journal.append(create_customer("cus_3"))
            clock.at = NOW + 60
            await store.journal.append(create_customer("cus_4"))

    asyncio.run(main())
    query = "SELECT extract(epoch FROM recorded_at)::int FROM ledger.events ORDER BY notification_id"
    assert fetch_rows(dsn, query) == [(NOW,), (NOW,), (NOW,), (NOW + 60,)]
    assert fetch_rows(dsn, "SELECT position, extract(epoch FROM recorded_at)::int FROM ledger.head") == [
        (4, NOW + 60)
    ]


def test_the_actor_is_stored_beside_an_event_that_somebody_requested_and_no_other(dsn: str) -> None:
    cause = Cause("acct_1", True, "key_1", "req_1", "idem_1")
    first = create_change("cus_1")
    append_together(dsn, Append(cause, [first, rename_change(first.state, "Grace", causation="cus_1/1")]))
    query = """SELECT account, livemode, actor, request_id, idempotency_key, causation
               FROM ledger.events ORDER BY notification_id"""
    assert fetch_rows(dsn, query) == [
        ("acct_1", True, "key_1", "req_1", "idem_1", None),
        ("acct_1", True, "key_1", None, None, "cus_1/1"),
    ]


def test_the_streams_an_event_touches_are_columns(dsn: str) -> None:
    [event] = customer_session.create(
        session_id="cuss_1",
        account="acct_1",
        livemode=False,
        customer="cus_1",
        components={"pricing_table": {"enabled": True}},
        terms=Terms(),
        now=NOW,
    )
    claimed = customer_session.CustomerSessionClaimed(originator_id="cuss_1", originator_version=2, at=NOW)
    state = evolve(None, event)
    append_together(dsn, Append(CAUSE, [Change(event, state), Change(claimed, evolve(state, claimed))]))
    query = "SELECT customer, charge, payment_intent FROM ledger.events"
    assert fetch_rows(dsn, query) == [("cus_1", None, None)] * 2


def test_analysts_read_state_as_json_and_no_personal_data(dsn: str) -> None:
    append_together(dsn, create_customer("cus_1", name="Ada Lovelace"))
    query = """SELECT position, stream, version, topic, state->>'tax_exempt', state::text
               FROM ledger.readable_events"""
    [(*place, tax_exempt, text)] = fetch_rows(dsn, query)
    assert place == [1, "cus_1", 1, "customer.created"]
    assert tax_exempt == "none"
    assert "Lovelace" not in text


def test_a_command_whose_versions_leave_a_gap_is_refused_whole(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            first = create_customer("cus_gap")
            after = first.changes[0]
            skipped = rename_customer(after.state, "later").changes[0]
            event = replace(skipped.event, originator_version=3)
            with pytest.raises(ValueError, match="must be consecutive"):
                await store.journal.append(Append(CAUSE, [after, Change(event, skipped.state)]))
            assert await store.streams.read("cus_gap") is None

    asyncio.run(main())

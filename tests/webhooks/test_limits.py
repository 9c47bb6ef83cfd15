"""How many deliveries a sender holds of each endpoint: places are bounded, also with many that hang."""

from __future__ import annotations

import asyncio

import pytest

from ledger.webhooks.schedule import limits
from ledger.webhooks.schedule.limits import (
    ENDPOINT_CONCURRENCY_MAX,
    ENDPOINT_DELIVERIES_MAX,
    START_DELIVERIES,
    AttemptLimits,
)

DELIVERIES_MAX = 256


@pytest.mark.parametrize(
    ("seconds", "succeeded", "held"),
    [
        (0.001, True, ENDPOINT_DELIVERIES_MAX),
        (0.5, True, ENDPOINT_CONCURRENCY_MAX + 16),
        (0.001, False, ENDPOINT_CONCURRENCY_MAX),
        (3.0, True, 1),
        (20.0, False, 1),
    ],
)
def test_the_faster_an_endpoint_accepts_the_more_is_claimed_ahead(
    seconds: float, succeeded: bool, held: int
) -> None:
    made = AttemptLimits(DELIVERIES_MAX)
    made.observe("we_1", seconds, succeeded=succeeded)
    assert made.get_room().of_endpoints == {"we_1": held}


def test_a_hundred_endpoints_that_hang_leave_room_for_others() -> None:
    made = AttemptLimits(DELIVERIES_MAX)
    hanging = [f"we_{number}" for number in range(100)]
    made.hold(made.get_room(), hanging * START_DELIVERIES)
    assert made.get_room().in_all == DELIVERIES_MAX - 100 * START_DELIVERIES
    for endpoint in hanging * START_DELIVERIES:
        made.observe(endpoint, 20.0, succeeded=False)
        made.release(endpoint)
    made.hold(made.get_room(), hanging)
    assert made.get_room() == (DELIVERIES_MAX - 100, dict.fromkeys(hanging, 0))


def test_only_what_a_limit_kept_back_is_claimed_when_a_delivery_ends() -> None:
    made = AttemptLimits(DELIVERIES_MAX)
    made.observe("we_fast", 0.001, succeeded=True)
    room = made.get_room()
    made.hold(room, ["we_fast", *["we_new"] * START_DELIVERIES])
    assert not made.release("we_fast")
    assert made.release("we_new")
    made = AttemptLimits(2)
    made.hold(made.get_room(), ["we_1", "we_2"])
    assert made.release("we_1")


def test_what_was_claimed_ahead_is_given_back_when_the_endpoint_stops_to_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "AHEAD_SECONDS_MAX", 0.01)

    async def attempt(made: AttemptLimits) -> bool:
        async with made.attempt("we_1") as may_begin:
            if may_begin:
                await hang.wait()
            return may_begin

    async def run() -> list[bool]:
        made = AttemptLimits(DELIVERIES_MAX)
        made.observe("we_1", 0.001, succeeded=True)
        made.hold(made.get_room(), ["we_1"] * (ENDPOINT_CONCURRENCY_MAX + 2))
        attempts = [asyncio.create_task(attempt(made)) for _ in range(ENDPOINT_CONCURRENCY_MAX + 2)]
        await asyncio.wait(attempts[-2:])
        assert made.get_room().of_endpoints == {"we_1": 0}
        hang.set()
        return await asyncio.gather(*attempts)

    hang = asyncio.Event()
    assert asyncio.run(run()) == [True] * ENDPOINT_CONCURRENCY_MAX + [False] * 2


def test_after_a_failure_those_that_were_claimed_ahead_are_not_attempted() -> None:
    made = AttemptLimits(DELIVERIES_MAX)

    async def deliver(answered: asyncio.Event, *, succeeded: bool) -> bool:
        async with made.attempt("we_1") as may_begin:
            if may_begin:
                await answered.wait()
                made.observe("we_1", 0.01, succeeded=succeeded)
        return may_begin

    async def run(*, succeeded: bool) -> list[bool]:
        answered = asyncio.Event()
        made.hold(made.get_room(), ["we_1"] * (ENDPOINT_CONCURRENCY_MAX + 2))
        tasks = [
            asyncio.create_task(deliver(answered, succeeded=succeeded))
            for _ in range(ENDPOINT_CONCURRENCY_MAX + 2)
        ]
        await asyncio.sleep(0)
        answered.set()
        began = list(await asyncio.gather(*tasks))
        for _ in tasks:
            made.release("we_1")
        return began

    assert asyncio.run(run(succeeded=True)) == [True] * (ENDPOINT_CONCURRENCY_MAX + 2)
    assert asyncio.run(run(succeeded=False)) == [True] * ENDPOINT_CONCURRENCY_MAX + [False] * 2
    assert made.get_room().of_endpoints == {"we_1": ENDPOINT_CONCURRENCY_MAX}

"""What a sender has claimed ahead is given back when the endpoint fails."""

from __future__ import annotations

import asyncio

from ledger.webhooks.schedule.limits import ENDPOINT_CONCURRENCY_MAX, AttemptLimits


def test_after_a_failure_those_that_were_claimed_ahead_are_not_attempted() -> None:
    limits = AttemptLimits(100)

    async def deliver(answered: asyncio.Event, *, succeeded: bool) -> bool:
        async with limits.attempt("we_1") as may_begin:
            if may_begin:
                await answered.wait()
                limits.observe("we_1", 0.01, succeeded=succeeded)
        return may_begin

    async def run(*, succeeded: bool) -> list[bool]:
        answered = asyncio.Event()
        limits.hold(limits.get_room(), ["we_1"] * (ENDPOINT_CONCURRENCY_MAX + 2))
        tasks = [
            asyncio.create_task(deliver(answered, succeeded=succeeded))
            for _ in range(ENDPOINT_CONCURRENCY_MAX + 2)
        ]
        await asyncio.sleep(0)
        answered.set()
        began = list(await asyncio.gather(*tasks))
        for _ in tasks:
            limits.release("we_1")
        return began

    assert asyncio.run(run(succeeded=True)) == [True] * (ENDPOINT_CONCURRENCY_MAX + 2)
    assert asyncio.run(run(succeeded=False)) == [True] * ENDPOINT_CONCURRENCY_MAX + [False] * 2
    assert limits.get_room().of_endpoints == {"we_1": ENDPOINT_CONCURRENCY_MAX}

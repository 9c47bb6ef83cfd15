"""A batch has the time of whichever of its callers may wait longest."""

from __future__ import annotations

import asyncio

from ledger.store.batching import BatchQueue, Pending
from ledger.time_limits import RequestLimit, get_request_limit


def test_a_caller_without_time_takes_none_from_the_others() -> None:
    limits: list[RequestLimit | None] = []

    async def process(batch: list[Pending[str, int]]) -> None:
        limits.append(get_request_limit())
        for pending in batch:
            pending.future.set_result(len(batch))

    async def submit(queue: BatchQueue[str, int], limit: RequestLimit) -> int:
        async with limit:
            return await queue.submit("read")

    async def main() -> None:
        queue: BatchQueue[str, int] = BatchQueue(process, batch_max=10, queue_max=10)
        queue.start("test")
        early, late = RequestLimit(60), RequestLimit(5)
        assert list(await asyncio.gather(submit(queue, early), submit(queue, late))) == [2, 2]
        assert await submit(queue, last := RequestLimit(1)) == 1
        assert list(await asyncio.gather(submit(queue, late := RequestLimit(5)), read_outside(queue))) == [
            2,
            2,
        ]
        await queue.close()
        assert limits == [early, last, None]

    async def read_outside(queue: BatchQueue[str, int]) -> int:
        return await queue.submit("read")

    asyncio.run(main())

"""Tells another system of each dispute that is opened, by a POST with an idempotency key.

Settings: API_URL, API_FEED_KEY (a key with the scope feed), DATABASE_URL (a Postgres database of yours),
NOTICE_URL (where to POST).
"""

import asyncio
import logging
import os
import signal

import httpx

from ledger_feed import Consumer, Feed, Inbox, Item, PostgresPositions

CONSUMER = "dispute_notices"


async def main() -> None:
    """Receive and notify side by side, until a signal."""
    database_url = os.environ["DATABASE_URL"]
    feed = Feed(os.environ["API_URL"], os.environ["API_FEED_KEY"], types=["dispute.opened"])
    positions = PostgresPositions(database_url, CONSUMER)
    await positions.ensure_tables()
    inbox = Inbox(database_url, CONSUMER)
    consumer = Consumer(feed, positions, inbox.put)
    client = httpx.AsyncClient()

    async def notify(item: Item, key: str) -> None:
        """Raises an error if the other system has not accepted it: then it is sent again."""
        notice = {"dispute": item.object, "account": item.account}
        answer = await client.post(os.environ["NOTICE_URL"], json=notice, headers={"Idempotency-Key": key})
        answer.raise_for_status()

    def stop() -> None:
        consumer.stop()
        inbox.stop()

    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop)
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(consumer.run())
            both.create_task(inbox.run(notify))
    finally:
        await client.aclose()
        await feed.aclose()
        await positions.aclose()


if __name__ == "__main__":
    logging.basicConfig(format="%(name)s: %(message)s")
    asyncio.run(main())

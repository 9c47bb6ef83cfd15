"""Queries on what a history of these tests left in the projections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ledger.commands.intent_secrets import PaymentIntentSecrets
from ledger.files.urls import FileLinkUrls
from ledger.keys.blind_index import BlindIndex
from ledger.postgres.connections import Pool
from ledger.postgres.statements import parse_statement
from ledger.queries.context import QueryContext
from ledger.queries.page_tokens import PageTokens
from ledger.queries.pages import Pages
from tests.projections.histories import Author


@asynccontextmanager
async def open_queries(author: Author, *, wait_ms: int = 0) -> AsyncIterator[QueryContext]:
    """What a process reads from that waits so long for a projection, by default never. Its connections are
    open and set up, so that tests can count the statements that follow."""
    async with Pool(author.dsn) as pool:
        await pool.wait()
        await author.store.streams.read("cus_x")
        key = author.store.service_keys
        pages = Pages(author.dsn, author.store.clock, author.store.notifier, wait_ms=wait_ms)
        await pages._statements.fetch(parse_statement("SELECT 1"), {})
        yield QueryContext(
            store=author.store,
            pool=pool,
            pages=pages,
            link_urls=FileLinkUrls(key),
            page_tokens=PageTokens(key),
            blind_index=BlindIndex(author.store.codec.data_keys.service_keys),
            derive_intent_secret=PaymentIntentSecrets(key).derive,
        )
        await pages.close()

"""Pages that are read while the one before is written: used if nothing has changed until then, else read
again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest

from ledger.erasure.job import ReadAhead
from ledger.erasure.records import Erasure, Page, Place, Step, begin_erasure, list_unended
from ledger.keys.documents import open_document
from ledger.postgres.connections import Conn, ReconnectingConnection, open_connection
from projections.erased_rows import ErasedRows, FoldedPage
from projections.read_models.catalog import PROJECTIONS
from tests.keys.keyrings import read_keyring
from tests.projections.histories import KEY, Author, catch_up, run_story
from tests.projections.rebuilds import run_rebuild

JOB = "prj_1"
FIRST = Place("", 1)
NAME = "Jenny Rosen"
_STREAMS = "INSERT INTO ledger.erasure_streams (job, stream) SELECT %s, unnest(%s::text[])"
_ROWS = "SELECT state FROM projections.customers WHERE id = %s"
_DAMAGE = "UPDATE projections.customers SET email = 'damaged' WHERE id = %s"
_PARK = """
INSERT INTO projections.parked (projection, generation, stream, position, error)
SELECT 'customers', generation, %s, 1, 'a test' FROM projections.live WHERE projection = 'customers'
"""
_STEP_BACK = "UPDATE projections.checkpoints SET position = 0 WHERE projection = 'customers'"

Change = Callable[[Author, str], Awaitable[Any]]
"""What happens, perhaps to this customer, between the read of a page and its write."""


class Outcome(NamedTuple):
    """What the write of the page after a change did: how many customers' rows it has changed; the name that
    each row of the customer has then; how often the page was read in all."""

    changed: int
    names: list[str]
    reads: int


class CountingRows(ErasedRows):
    """Counts how often a page is read."""

    reads = 0

    async def read_page(self, conn: Conn, erasure: Erasure) -> FoldedPage:
        self.reads += 1
        return await super().read_page(conn, erasure)


def write_after(dsn: str, change: Change) -> Outcome:
    """Read the only page of an erasure, let the change happen, and write the page."""

    async def story(author: Author) -> Outcome:
        customer = await author.create_customer(name=NAME, email="jenny@example.com")
        await catch_up(dsn)
        rows = CountingRows(author.store.codec, author.store.clock, PROJECTIONS)
        erasure = await begin(dsn, [customer])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            page = await rows.read_page(conn, erasure)
            await change(author, customer)
            async with conn.transaction():
                written = await rows.write_page(conn, erasure, page)
        assert written.place is not None
        assert written.place.cursor == customer
        return Outcome(written.counts.get("rows_customers", 0), read_names(dsn, customer), rows.reads)

    return run_story(dsn, story)


def read_names(dsn: str, customer: str) -> list[str]:
    keyring = read_keyring(dsn, KEY)
    with psycopg.connect(dsn) as conn:
        states = [open_document(keyring, state) for (state,) in conn.execute(_ROWS, (customer,))]
    return [msgspec.json.decode(state)["name"] for state in states if state is not None]


async def begin(dsn: str, streams: list[str]) -> Erasure:
    """An erasure that has reached these streams, before its first page of rows with something in it."""
    async with open_connection(dsn, "ledger_api", name="test") as conn:
        await begin_erasure(conn, JOB, account="acct_1", livemode=False, subjects=[], position=1)
        await conn.execute(_STREAMS, (JOB, streams))
        [erasure] = await list_unended(conn)
    return erasure._replace(step=Step.ROWS, place=FIRST)


async def nothing(author: Author, customer: str) -> None:
    """No change."""


async def change_customer(author: Author, customer: str) -> None:
    await author.update_customer(customer, name="Jenny Miller")
    await catch_up(author.dsn)


async def change_another(author: Author, customer: str) -> None:
    await author.create_customer(name="John Miller")
    await catch_up(author.dsn)


async def begin_another_erasure(author: Author, customer: str) -> None:
    async with open_connection(author.dsn, "ledger_api", name="test") as conn:
        await conn.execute("SELECT ledger.begin_erasing(%s)", (["cus_other"],))


async def damage(author: Author, customer: str) -> None:
    """Change the row, so that it is written if anything is."""
    with psycopg.connect(author.dsn) as conn:
        conn.execute(_DAMAGE, (customer,))


async def damage_and_park(author: Author, customer: str) -> None:
    await damage(author, customer)
    with psycopg.connect(author.dsn) as conn:
        conn.execute(_PARK, (customer,))


async def damage_and_step_back(author: Author, customer: str) -> None:
    await damage(author, customer)
    with psycopg.connect(author.dsn) as conn:
        conn.execute(_STEP_BACK)


async def rebuild(author: Author, customer: str) -> None:
    await run_rebuild(author.dsn)


@pytest.mark.parametrize("change", [nothing, change_another])
def test_a_page_that_still_holds_is_not_read_again(dsn: str, change: Change) -> None:
    assert write_after(dsn, change) == Outcome(changed=0, names=[NAME], reads=1)


def test_a_later_event_of_a_stream_is_not_overwritten(dsn: str) -> None:
    assert write_after(dsn, change_customer) == Outcome(changed=0, names=["Jenny Miller"], reads=2)


def test_what_was_decoded_before_another_erasure_is_decoded_again(dsn: str) -> None:
    assert write_after(dsn, begin_another_erasure).reads == 2


def test_a_generation_that_was_built_meanwhile_is_written_too(dsn: str) -> None:
    outcome = write_after(dsn, rebuild)
    assert outcome.reads == 2
    assert outcome.names == [NAME, NAME]


def test_a_row_that_differs_is_written(dsn: str) -> None:
    assert write_after(dsn, damage).changed == 1


@pytest.mark.parametrize("change", [damage_and_park, damage_and_step_back])
def test_what_a_generation_does_not_apply_is_not_written(dsn: str, change: Change) -> None:
    assert write_after(dsn, change).changed == 0


class Number(NamedTuple):
    """A page of one number."""

    next_place: Place | None
    number: int


class Numbers:
    """Inserts the numbers up to `last`, one a page, and remembers which it has read."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.read: list[int] = []
        self.has_read_ahead = asyncio.Event()

    async def read_page(self, conn: Conn, erasure: Erasure) -> Number:
        number = erasure.place.version + 1
        self.read.append(number)
        if number > 1:
            self.has_read_ahead.set()
        await conn.execute("SELECT 1")
        return Number(Place("", number) if number <= self.last else None, number)

    async def write_page(self, conn: Conn, erasure: Erasure, reading: Number) -> Page:
        await conn.execute("INSERT INTO numbers VALUES (%s)", (reading.number,))
        return Page(reading.next_place)


def test_pages_are_read_once_and_written_in_order_and_again_after_a_failure(dsn: str) -> None:
    async def story(author: Author) -> tuple[list[int], list[int]]:
        erasure = await begin(dsn, [])
        ahead = ReconnectingConnection(dsn, "ledger_api", name="test ahead")
        numbers = Numbers(5)
        pages = ReadAhead(numbers, ahead)
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            await conn.execute("CREATE TEMPORARY TABLE numbers (number integer CHECK (number <> 3))")
            place: Place | None = Place()
            while place is not None:
                try:
                    place = (await pages.run_page(conn, erasure._replace(place=place))).place
                except psycopg.errors.CheckViolation:
                    await conn.execute("ALTER TABLE numbers DROP CONSTRAINT numbers_number_check")
            cur = await conn.execute("SELECT number FROM numbers")
            written = [number for (number,) in await cur.fetchall()]
        await pages.drop()
        await ahead.drop()
        return written, numbers.read

    written, read = run_story(dsn, story)
    assert written == [1, 2, 3, 4, 5]
    assert read[:3] == [1, 2, 3]
    assert read.count(3) == 2  # it was forgotten with the page that failed
    assert all(read.count(number) == 1 for number in (1, 2, 5, 6))


def test_what_was_read_ahead_on_behalf_of_a_lost_connection_is_read_again(dsn: str) -> None:
    async def story(author: Author) -> list[int]:
        erasure = await begin(dsn, [])
        ahead = ReconnectingConnection(dsn, "ledger_api", name="test ahead")
        numbers = Numbers(5)
        pages = ReadAhead(numbers, ahead)
        place: Place | None = Place()
        for _ in range(2):
            async with open_connection(dsn, "ledger_api", name="test") as conn:
                await conn.execute("CREATE TEMPORARY TABLE numbers (number integer)")
                assert place is not None
                place = (await pages.run_page(conn, erasure._replace(place=place))).place
                await numbers.has_read_ahead.wait()
        await pages.drop()
        await ahead.drop()
        return numbers.read

    assert run_story(dsn, story)[:3] == [1, 2, 2]

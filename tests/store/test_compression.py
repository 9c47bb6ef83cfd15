"""Documents are stored compressed, and come back byte for byte, whatever release stored them."""

from __future__ import annotations

import asyncio
import uuid

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.compression.documents import compress, compress_as_text, decompress, decompress_text
from ledger.postgres.migrations import COMPRESSED_SINCE, REPLIES_AS_BYTES_SINCE
from ledger.store.replies import read_body
from tests.store.stores import NOW, create_customer, fetch_rows, open_store, with_reply

CUSTOMER = (
    '{"id":"cus_0354vo1uemHRzlFMc1A2qH","object":"customer","address":null,"balance":0,"business_name":null,'
    '"created":1795826138,"currency":null,"customer_account":null,"default_source":null,"delinquent":false,'
    '"description":null,"discount":null,"email":"jenny@example.com","individual_name":null,'
    '"invoice_prefix":"SKWB5VR6","invoice_settings":{"custom_fields":null,"default_payment_method":null,'
    '"footer":null,"rendering_options":null},"livemode":false,"metadata":{"order":"2"},"name":"Jenny Rosen",'
    '"next_invoice_sequence":1,"phone":null,"preferred_locales":[],"shipping":null,"tax_exempt":"none",'
    '"test_clock":null}'
)
STORED_CUSTOMER = (
    "KLUv/WEBYQE1AgCTwgd889kVqMJJiSJX8vly7PfvkhI3rnaBgOtGEnLpHU86DfwK1HpS65EtIiWsEwkwZ8YPn5TKZ1"
    "6s8dje1qXs2O6VBRPS"
)
"""What this release stored for it."""


@given(st.text().map(lambda text: ('{"é":"' + text + '"}').encode(errors="replace")))
def test_a_document_comes_back_byte_for_byte(document: bytes) -> None:
    assert decompress(compress(document)) == document
    assert decompress_text(compress_as_text(document).decode()) == document


@pytest.mark.parametrize("document", [b"{}", b"[]", b"null", b"", CUSTOMER.encode()])
def test_a_document_that_is_not_compressed_is_read_as_it_is(document: bytes) -> None:
    assert decompress(document) == document
    assert decompress_text(document.decode()) == document


def test_what_an_earlier_release_compressed_is_read_for_ever() -> None:
    """Fails when the dictionary was changed: nobody could read any document any more."""
    assert decompress_text(STORED_CUSTOMER) == CUSTOMER.encode()


def test_a_customer_takes_a_fifth() -> None:
    assert len(compress(CUSTOMER.encode())) <= 110 < len(CUSTOMER) / 5


@pytest.mark.parametrize("oldest", ["0010", COMPRESSED_SINCE, REPLIES_AS_BYTES_SINCE])
def test_a_reply_is_compressed_once_no_older_release_may_run_and_replayed_byte_for_byte(
    dsn: str, oldest: str
) -> None:
    async def story() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1", **with_reply("key", CUSTOMER)))
            stored = await store.journal.find_reply("acct_1", False, "key")
            assert stored is not None
            assert stored.reply.body == CUSTOMER

    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.served SET oldest = %s", (oldest,))
    asyncio.run(story())
    [[body, compressed]] = fetch_rows(dsn, "SELECT body, compressed FROM ledger.replies")
    if oldest == REPLIES_AS_BYTES_SINCE:
        assert body is None
        assert len(compressed) <= 110
    else:  # what the release of COMPRESSED_SINCE reads
        assert (body, compressed) == (CUSTOMER, None)


def test_a_reply_that_an_earlier_release_compressed_is_replayed() -> None:
    assert read_body(STORED_CUSTOMER, None) == CUSTOMER


def test_an_older_release_beside_this_one_stores_and_reads_replies(dsn: str) -> None:
    """By `ledger.append_batch` and the column `body`, which this release reads, and writes as long as
    `ledger.served` names such a release."""
    stored = ([0], ["acct_1"], [False], ["its key"], ["print"], [200], [STORED_CUSTOMER])
    arguments = (uuid.uuid4(), 1, NOW, *(None,) * 17, *stored, None, None, ["req_1"], None)

    async def story() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1", **with_reply("our key", CUSTOMER)))
            reply = await store.journal.find_reply("acct_1", False, "its key")
            assert reply is not None
            assert reply.reply.body == CUSTOMER

    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.served SET oldest = %s", (COMPRESSED_SINCE,))
        places = ", ".join(["%s"] * len(arguments))
        conn.execute(f"SELECT ledger.append_batch({places})".encode(), arguments)
    asyncio.run(story())
    bodies: dict[str, str] = dict(fetch_rows(dsn, "SELECT key, body FROM ledger.replies"))
    assert bodies == {"its key": STORED_CUSTOMER, "our key": CUSTOMER}

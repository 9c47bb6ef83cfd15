"""Rows hold what is personal sealed for its data subject: no file of a table and no dump shows it, lists and
filters answer as ever, and what an erased subject had is not shown even where a row still has it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from ledger.call import Call, Cause
from ledger.domain import resource
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.keys.blind_index import BlindIndex, is_hash
from ledger.keys.data_keys import DataKey
from ledger.keys.documents import find_subject, load_document_keys, open_document, run_on
from ledger.postgres.connections import open_connection
from ledger.postgres.programs.client import find_newest_program
from ledger.queries import charges, customers, events, resources
from ledger.queries.context import QueryContext
from ledger.wire.published_types import PUBLISHED_TYPES_BY_NAME
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild.verification import verify
from tests.projections.histories import ACCOUNT, Author, catch_up, open_engine, run_story
from tests.projections.queries import open_queries
from tests.projections.rebuilds import run_rebuild
from tests.projections.releases import let_earlier_releases_run
from tests.work import record_runs

MARKERS = ("Quistorpzvenka", "wyxomelfride", "Brauklonstadt", "jumvektorial")
CARDHOLDER = PUBLISHED_TYPES_BY_NAME["issuing.cardholder"]
DOCUMENTS = {
    (projection.name, column.name)
    for projection in PROJECTIONS
    for column in projection.columns
    if column.sealed
}


def call(**parameters: Any) -> Call:
    return Call(Cause(ACCOUNT, False, None, "req_1", "key"), "", {"limit": 10, **parameters})


async def write_history(author: Author) -> tuple[str, str, str]:
    """A customer with a charge, another one, and a cardholder of another service; their ids."""
    jenny = await author.create_customer(
        name=f"Jenny {MARKERS[0]}",
        email=f"{MARKERS[1]}@example.com",
        address={"city": MARKERS[2]},
        metadata={"order": MARKERS[3]},
    )
    charge = await author.create_charge(customer=jenny, description=f"for {MARKERS[0]}")
    await author.update_customer(jenny, phone=MARKERS[3])
    await author.create_customer(name="Sam", email="sam@example.com")
    await publish(author, "ich_1", email=f"{MARKERS[1]}@example.com", status="active")
    return jenny, charge, "ich_1"


async def publish(author: Author, resource_id: str, **members: Any) -> None:
    await author.append(
        resource.publish(
            None,
            resource_id=resource_id,
            account=ACCOUNT,
            livemode=False,
            type=CARDHOLDER.object_type,
            event_type="issuing_cardholder.created",
            object={"id": resource_id, "object": CARDHOLDER.object_type, **members},
            now=author.now,
        )
    )


async def fetch(dsn: str, query: str) -> list[Any]:
    async with open_connection(dsn, "ledger_projector", name="test") as conn:
        return await (await conn.execute(query.encode())).fetchall()


async def begin_erasing(dsn: str, subject: str) -> None:
    async with open_connection(dsn, "ledger_api", name="test") as conn:
        await conn.execute("SELECT ledger.begin_erasing(%s)", ([subject],))


async def list_emails(queries: QueryContext, email: str) -> list[str]:
    page = await customers.list_customers(call(email=email), queries)
    return [each["email"] for each in page.body["data"]]


async def list_cardholders(queries: QueryContext, email: str) -> list[str]:
    list_query = resources.build_list_query(CARDHOLDER)
    page = await resources.list_all(CARDHOLDER, list_query, call(email=email), queries)
    return [each["id"] for each in page.body["data"]]


def read_table_files(dsn: str) -> bytes:
    """The bytes of all tables and indexes of the schemas, as they are on the disk."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CHECKPOINT")
        directory = conn.execute("SHOW data_directory").fetchone()
        rows = conn.execute(
            "SELECT pg_relation_filepath(c.oid) FROM pg_class c "
            "WHERE c.relnamespace::regnamespace::text IN "
            "('ledger', 'projections', 'webhooks', 'pg_toast', 'pg_catalog') "
            "AND pg_relation_filepath(c.oid) IS NOT NULL"
        ).fetchall()
    assert directory is not None
    return b"".join((Path(directory[0]) / path).read_bytes() for (path,) in rows)


def dump(dsn: str) -> bytes:
    return subprocess.run([find_newest_program("pg_dump"), dsn], check=True, capture_output=True).stdout


def test_no_file_and_no_dump_shows_what_is_personal(dsn: str) -> None:
    async def story(author: Author) -> None:
        await write_history(author)
        await catch_up(dsn)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await conn.execute("ANALYZE projections.customers, projections.feed, projections.resources")

    run_story(dsn, story)
    for place in (read_table_files(dsn), dump(dsn)):
        assert [marker for marker in MARKERS if marker.encode() in place] == []
        assert ACCOUNT.encode() in place, "this is where rows are"


def test_what_earlier_releases_read_is_in_the_clear(dsn: str) -> None:
    """As long as they may run. So the scan above finds what is not sealed."""

    async def story(author: Author) -> None:
        let_earlier_releases_run(dsn, True)
        await write_history(author)
        await catch_up(dsn)

    run_story(dsn, story)
    for place in (read_table_files(dsn), dump(dsn)):
        assert MARKERS[1].encode() in place


def test_each_document_is_sealed_for_its_subject(dsn: str) -> None:
    async def story(author: Author) -> None:
        jenny, charge, cardholder = await write_history(author)
        await catch_up(dsn)
        found: dict[str, set[str | None]] = {}
        for table, column in sorted(DOCUMENTS):
            rows = await fetch(dsn, f"SELECT {column} FROM projections.{table}")
            found[table] = {find_subject(row[0]) for row in rows}
        sam = next(id for id, state in author.states.items() if getattr(state, "name", None) == "Sam")
        assert {table: subjects for table, subjects in found.items() if subjects} == {
            "customers": {jenny, sam},
            "charges": {jenny},
            "balance_transactions": {jenny},
            "resources": {cardholder},
            "feed": {jenny, sam, cardholder},
        }
        assert isinstance(author.states[charge], Charge)
        [[email], _] = await fetch(dsn, "SELECT email FROM projections.customers ORDER BY position")
        assert is_hash(email)

    run_story(dsn, story)


def test_a_batch_makes_each_key_once_however_many_projections_seal_with_it(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(3):
            await author.create_charge()
        async with open_engine(dsn) as engine:
            with record_runs(DataKey.__init__) as made:
                assert (await engine.advance()).events == 3
            assert len(made) == 3

    run_story(dsn, story)


def test_lists_and_filters_find_rows_of_both_forms(dsn: str) -> None:
    email = f"{MARKERS[1]}@example.com"

    async def story(author: Author) -> None:
        let_earlier_releases_run(dsn, True)
        await author.create_customer(email=email)
        await publish(author, "ich_old", email=email)
        await catch_up(dsn)
        let_earlier_releases_run(dsn, False)
        await author.create_customer(email=email)
        await author.create_customer(email="another@example.com")
        await publish(author, "ich_new", email=email)
        await publish(author, "ich_other", email="another@example.com")
        await catch_up(dsn)
        async with open_queries(author) as queries:
            assert await list_emails(queries, email) == [email, email]
            assert await list_emails(queries, email.upper()) == []
            hashed = BlindIndex(author.store.service_keys).hash_as_text(ACCOUNT, False, "email", email)
            assert await list_emails(queries, hashed[:-1]) == []
            assert sorted(await list_cardholders(queries, email)) == ["ich_new", "ich_old"]
            assert await list_cardholders(queries, "nobody@example.com") == []
            assert len((await events.list_events(call(), queries)).body["data"]) == 6
        verified = await verify(dsn, author.store.codec, author.store.clock, PROJECTIONS)
        assert [(each.differing, each.error) for each in verified] == [(0, None)] * len(PROJECTIONS)
        assert (await run_rebuild(dsn)).state == "switched", "stored differently, and equal"
        async with open_queries(author) as queries:
            assert await list_emails(queries, email) == [email, email]
            assert sorted(await list_cardholders(queries, email)) == ["ich_new", "ich_old"]
        live = "(SELECT generation FROM projections.live WHERE projection = 'customers')"
        query = f"SELECT state FROM projections.customers WHERE generation = {live}"
        assert all(find_subject(row[0]) for row in await fetch(dsn, query)), "a rebuild seals them"

    run_story(dsn, story)


def test_two_generations_of_sealed_rows_have_the_same_digest(dsn: str) -> None:
    async def story(author: Author) -> None:
        await write_history(author)
        await catch_up(dsn)
        before = await fetch(dsn, "SELECT data FROM projections.feed ORDER BY position, ordinal")
        assert (await run_rebuild(dsn)).state == "switched"
        query = "SELECT data FROM projections.feed ORDER BY generation DESC, position, ordinal"
        after = await fetch(dsn, query)
        assert after[: len(before)] == before

    run_story(dsn, story)


@pytest.mark.parametrize("erased", ["cus", "ich"])
def test_a_row_that_an_erasure_has_not_rewritten_yet_shows_nothing_of_it(dsn: str, erased: str) -> None:
    async def story(author: Author) -> None:
        jenny, _, cardholder = await write_history(author)
        await catch_up(dsn)
        subject = jenny if erased == "cus" else cardholder
        async with open_queries(author) as queries:
            shown = await list_everything(queries)
            assert all(marker in shown for marker in MARKERS)
            await begin_erasing(dsn, subject)
            await author.store.watch.look(author.store.streams.source)
            shown = await list_everything(queries)
            hidden = MARKERS if erased == "cus" else ()
            assert not any(marker in shown.replace(f"{MARKERS[1]}@", "") for marker in hidden)
            assert subject in shown
        sealed = [each for each in PROJECTIONS if each.name in dict(DOCUMENTS)]
        verified = await verify(dsn, author.store.codec, author.store.clock, sealed)
        assert [(each.differing, each.error) for each in verified] == [(0, None)] * len(sealed)
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            stored = [row[0] for row in await fetch(dsn, "SELECT data FROM projections.feed")]
            keyring = await load_document_keys(run_on(conn), author.store.codec.data_keys, stored)
            unreadable = [each for each in stored if find_subject(each) == subject]
            assert unreadable
            assert all(open_document(keyring, each) is None for each in unreadable)

    async def list_everything(queries: QueryContext) -> str:
        pages = [
            await customers.list_customers(call(), queries),
            await charges.list_charges(call(), queries),
            await events.list_events(call(), queries),
            await resources.list_all(CARDHOLDER, resources.build_list_query(CARDHOLDER), call(), queries),
        ]
        return msgspec.json.encode([page.body for page in pages]).decode()

    run_story(dsn, story)


def test_a_damaged_row_is_told_from_one_of_an_erased_subject(dsn: str) -> None:
    async def story(author: Author) -> None:
        jenny, *_ = await write_history(author)
        await catch_up(dsn)
        with psycopg.connect(dsn) as conn:
            conn.execute(
                "UPDATE projections.customers SET state = set_byte(state, length(state) - 1, "
                "(get_byte(state, length(state) - 1) + 1) %% 256) WHERE id = %s",
                (jenny,),
            )
        verified = await verify(dsn, author.store.codec, author.store.clock, PROJECTIONS)
        assert {each.projection: each.differing for each in verified if each.differing} == {"customers": 1}
        async with open_queries(author) as queries:
            page = await customers.list_customers(call(), queries)
        assert isinstance(author.states[jenny], Customer)
        assert MARKERS[0] in msgspec.json.encode(page.body).decode(), "read from the log"

    run_story(dsn, story)

"""Rows of published objects that belong to another customer by now, or of whose customer the release that has
stored them knew nothing: each is sealed for a subject that has a key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import psycopg
import pytest

from ledger.domain import resource
from ledger.domain.event import DomainEvent
from ledger.domain.resource import Resource, ResourcePublished
from ledger.keys.documents import find_subject
from ledger.postgres.connections import open_connection
from ledger.store.seals.key_migration import KeyMigration
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild.verification import verify
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.projections.rebuilds import run_rebuild

TYPE = "financial_connections.account"
_OLD_DATABASE = """
UPDATE ledger.served SET oldest = '0038'; UPDATE ledger.erasure_epoch SET epoch = 0;
UPDATE ledger.key_migration SET finished_at = NULL
"""
_END_SUPPORT = "UPDATE ledger.served SET oldest = '0039'"


def publish(author: Author, resource_id: str, **members: Any) -> ResourcePublished:
    [event] = resource.publish(
        cast("Resource | None", author.states.get(resource_id)),
        resource_id=resource_id,
        account=ACCOUNT,
        livemode=False,
        type=TYPE,
        event_type=f"{TYPE}.created",
        object={"display_name": "Ada", **members},
        now=author.now,
    )
    assert isinstance(event, ResourcePublished)
    return event


def execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(statement.encode())


def list_subjects(dsn: str, table: str, column: str) -> list[str | None]:
    """The subjects for which the rows of the live generation are sealed, in the order of the log."""
    query = (
        f"SELECT {column} FROM projections.{table} JOIN projections.live USING (generation) "
        f"WHERE projection = '{table}' ORDER BY position"
    )
    with psycopg.connect(dsn) as conn:
        return [find_subject(row[0]) for row in conn.execute(query.encode())]


async def rebuild(dsn: str, author: Author) -> None:
    """The rows, also of generations that are built anew, are those that are live."""
    verified = await verify(dsn, author.store.codec, author.store.clock, PROJECTIONS)
    assert [(each.differing, each.error) for each in verified] == [(0, None)] * len(PROJECTIONS)
    assert (await run_rebuild(dsn)).state == "switched"


def test_what_an_earlier_release_has_stored_stays_sealed_for_the_object(dsn: str) -> None:
    holder = {"account_holder": {"type": "customer", "customer": "cus_1"}}

    async def story(author: Author) -> None:
        await author.append([replace(publish(author, "fca_1", **holder), owner=None)])
        await catch_up(dsn)
        assert list_subjects(dsn, "resources", "state") == ["fca_1"]
        await author.append([publish(author, "fca_1", **holder, status="active")])
        await catch_up(dsn)
        for _ in range(2):
            assert list_subjects(dsn, "feed", "data") == ["fca_1", "cus_1"]
            assert list_subjects(dsn, "resources", "state") == ["cus_1"]
            await rebuild(dsn, author)

    run_story(dsn, story)


@pytest.mark.parametrize(
    "customers", [("cus_1", None), (None, "cus_1"), ("cus_1", "cus_2"), ("cus_1", None, "cus_2")]
)
def test_what_was_appended_before_data_keys_is_sealed_for_whom_it_has_come_to(
    dsn: str, customers: tuple[str | None, ...]
) -> None:
    """The object is published for one customer after the other, and nothing else is known of them."""

    async def story(author: Author) -> None:
        for number, customer in enumerate(customers):
            event: DomainEvent = publish(author, "fca_1", customer=customer, number=number)
            await author.append([event])
        execute(dsn, _END_SUPPORT)
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            migration = KeyMigration(dsn, author.store.codec, page_events=1)
            while await migration.advance(conn) is not None:
                pass
        await author.store.watch.look(author.store.streams.source)
        await catch_up(dsn)
        subjects = [each or "fca_1" for each in customers]
        assert list_subjects(dsn, "feed", "data") == subjects
        assert list_subjects(dsn, "resources", "state") == subjects[-1:]
        await rebuild(dsn, author)

    execute(dsn, _OLD_DATABASE)
    run_story(dsn, story)

"""Lists as of a moment are what the public lists showed then, in any state of the projections."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import psycopg
import pytest

from ledger.api.public.routes import OPERATIONS
from ledger.audit import lists
from ledger.audit.auditor import Auditor
from ledger.audit.lists import list_objects_at
from ledger.call import Call, Cause
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.payment_intent import PaymentIntent
from ledger.errors import Forbidden, InvalidParameter, UnknownReference
from ledger.postgres.connections import fetch_one, open_connection
from ledger.queries.context import QueryContext
from ledger.queries.customer_sessions import list_by_customer
from ledger.wire.expansion import parse_expand
from ledger.wire.forms import decode
from tests.api.conftest import account, http, raw, registrar, service  # noqa: F401  # fixtures
from tests.api.service import Account, Caller, Service
from tests.internal.conftest import InternalClient, operator  # noqa: F401  # fixtures
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.projections.history_commands import COMMANDS
from tests.projections.queries import open_queries

# ruff: noqa: F811

AUDITOR = Auditor(ACCOUNT, False, "key_auditor", shows_personal_data=True)
AUDITOR_WITHOUT_SCOPE = replace(AUDITOR, shows_personal_data=False)
AUDITOR_OF_OTHER = replace(AUDITOR, account="acct_other")
AUDITOR_OF_LIVE_MODE = replace(AUDITOR, livemode=True)
PATHS = {
    "customer": "/v1/customers",
    "charge": "/v1/charges",
    "dispute": "/v1/disputes",
    "refund": "/v1/refunds",
    "payment_intent": "/v1/payment_intents",
    "webhook_endpoint": "/v1/webhook_endpoints",
    "invoice": "/v1/invoices",
}
COMMANDS_COUNT = 120
_PARK_STREAM = """
INSERT INTO projections.parked (projection, generation, stream, position, error)
SELECT 'audit_keys', l.generation, e.originator_id, e.notification_id, 'a fault'
FROM projections.live l, ledger.events e
WHERE l.projection = 'audit_keys' AND e.topic = 'dispute.opened' ORDER BY e.notification_id LIMIT 1
"""
_DELETE_PARKED = """
DELETE FROM projections.audit_keys a USING projections.parked p, ledger.events e
WHERE e.originator_id = p.stream AND a.id = e.notification_id
"""
_STOP_INDEX = "UPDATE projections.checkpoints SET position = %s WHERE projection = 'audit_keys'"
REMEMBERED_EVERY = 30


encode = msgspec.json.encode


class Remembered(NamedTuple):
    """What a public list answered when the log ended at `position`."""

    position: int
    object_type: str
    query: Mapping[str, str]
    data: bytes
    has_more: bool


async def call_public(queries: QueryContext, object_type: str, query: Mapping[str, str]) -> Any:
    """The body of the public list."""
    operation = next(each for each in OPERATIONS if (each.method, each.path) == ("GET", PATHS[object_type]))
    parameters = operation.table.parse(decode(urlencode(query).encode()))
    tree = parse_expand(parameters.pop("expand", []), operation.expandable, in_list=True)
    call = Call(Cause(ACCOUNT, False, "key_test", None, None), "", parameters, tree)
    assert operation.read is not None
    body = (await operation.read(call, queries)).body
    for item in body["data"]:
        item |= dict.fromkeys(item.keys() & {"client_secret"})  # audits show no secrets
    return body


async def call_audit(
    queries: QueryContext, object_type: str, query: Mapping[str, str], at: str, auditor: Auditor = AUDITOR
) -> Any:
    form = decode(urlencode({"type": object_type, "at": at, **query}).encode())
    return await list_objects_at(queries, auditor, form)


def generate_queries(author: Author, draw: random.Random) -> Iterator[tuple[str, dict[str, str]]]:
    """Each list with each of its filters, with values that objects have or had."""
    some: dict[type[Any], Any] = {
        kind: [state for state in author.states.values() if isinstance(state, kind)]
        for kind in (Customer, Charge, Dispute, PaymentIntent)
    }
    customer, charge = draw.choice(some[Customer]), draw.choice(some[Charge])
    created = {"created[gte]": str(charge.created - 1), "created[lt]": str(charge.created + 5)}
    for object_type in PATHS:
        yield object_type, {}
        yield object_type, {"limit": "2"}
        if object_type != "webhook_endpoint":
            yield object_type, created
    if customer.email is not None:
        yield "customer", {"email": customer.email}
    yield "customer", {"email": "nobody@example.com"}
    for object_type in ("charge", "payment_intent", "invoice"):
        yield object_type, {"customer": customer.id, "limit": "5"}
    for object_type in ("dispute", "refund"):
        yield object_type, {"charge": charge.id}
    if some[PaymentIntent]:
        for object_type in ("charge", "dispute", "refund"):
            yield object_type, {"payment_intent": draw.choice(some[PaymentIntent]).id}
    yield "charge", {"transfer_group": "none"}
    yield "invoice", {"status": "open"}
    yield "dispute", {"expand[]": "data.charge.customer", "limit": "3"}
    yield "charge", {"expand[]": "data.customer", "limit": "3"}


async def fetch_head(author: Author) -> int:
    async with open_connection(author.dsn, "ledger_api", name="test") as conn:
        row = await fetch_one(conn, "SELECT position FROM ledger.head")
    assert row is not None
    return int(row[0])


@asynccontextmanager
async def open_past(author: Author) -> AsyncIterator[QueryContext]:
    """Queries that can read states of the past."""
    async with open_queries(author) as queries:
        await author.store.past_streams.start()
        try:
            yield queries
        finally:
            await author.store.past_streams.close()


def run_command(service: Service, account: Account, *arguments: str) -> str:
    """What `ledger audit` prints for the account."""
    return service.run_command("audit", *arguments, "--account", account.id)


async def remember(author: Author, queries: QueryContext, draw: random.Random) -> list[Remembered]:
    """All lists as they are now."""
    position = await fetch_head(author)
    remembered = []
    for object_type, query in generate_queries(author, draw):
        body = await call_public(queries, object_type, query)
        data = encode(body["data"])
        remembered.append(Remembered(position, object_type, query, data, body["has_more"]))
    return remembered


async def check(queries: QueryContext, remembered: list[Remembered]) -> None:
    for each in remembered:
        body = await call_audit(queries, each.object_type, each.query, f"position:{each.position}")
        assert encode(body["data"]) == each.data, each
        assert body["has_more"] is each.has_more, each
        assert body["as_of"]["position"] == each.position


async def write_history(author: Author, draw: random.Random, count: int = COMMANDS_COUNT) -> None:
    for _ in range(count):
        command = draw.choice(sorted(COMMANDS))
        await author.run_command(command, draw.randrange(6), draw.randrange(31))


async def begin_history(author: Author) -> None:
    for command in ("create_customer", "create_charge", "create_intent", "create_endpoint"):
        await author.run_command(command, 0, 1)
    await author.open_dispute(next(each.id for each in author.states.values() if isinstance(each, Charge)))


@pytest.mark.parametrize("seed", [12, 78])
def test_lists_as_of_a_moment_are_what_the_public_lists_showed(dsn: str, seed: int) -> None:
    draw = random.Random(seed)

    async def story(author: Author) -> None:
        await begin_history(author)
        remembered: list[Remembered] = []
        async with open_past(author) as queries:
            for _ in range(COMMANDS_COUNT // REMEMBERED_EVERY):
                await write_history(author, draw, REMEMBERED_EVERY)
                await catch_up(dsn)
                remembered += await remember(author, queries, draw)
            assert sum(len(each.data) > 2 for each in remembered) > len(remembered) / 2
            await check(queries, remembered)
            half = remembered[-1].position // 2
            with psycopg.connect(dsn, autocommit=True) as conn:
                # The index lacks a parked stream, then it has the first half of the log only, then there is
                # none.
                conn.execute(_PARK_STREAM)
                conn.execute(_DELETE_PARKED)
                await check(queries, remembered)
                conn.execute(_STOP_INDEX, (half,))
                conn.execute("DELETE FROM projections.audit_keys WHERE position > %s", (half,))
                await check(queries, remembered)
                conn.execute("DELETE FROM projections.live WHERE projection = 'audit_keys'")
            await check(queries, remembered)

    run_story(dsn, story)


def test_pages_follow_each_other_by_id_and_by_position(dsn: str) -> None:
    """Also those that examine fewer objects than match the filter."""

    async def story(author: Author) -> None:
        ids = [await author.create_customer(email="ada@example.com") for _ in range(9)]
        other = [await author.create_customer(email="grace@example.com") for _ in range(4)]
        await catch_up(dsn)
        async with open_past(author) as queries:
            for query in ({}, {"email": "ada@example.com"}):
                expected = [*(other[::-1] if not query else ()), *ids[::-1]]
                for by_position in (False, True):
                    assert await walk(queries, query, by_position=by_position) == expected
            whole = await call_audit(queries, "customer", {"email": "ada@example.com"}, "position:13")
            assert [item["id"] for item in whole["data"]] == ids[::-1]
            assert (whole["has_more"], whole.get("next_position")) == (False, None)

    run_story(dsn, story)


async def walk(queries: QueryContext, query: Mapping[str, str], *, by_position: bool) -> list[str]:
    """The ids of all pages of at most two."""
    ids: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await call_audit(queries, "customer", {**query, "limit": "2", **cursor}, "position:13")
        ids += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            return ids
        cursor = {"starting_after": f"position:{page['next_position']}" if by_position else ids[-1]}


def test_a_page_examines_a_bounded_number_of_objects(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "EXAMINED_MAX", 3)
    monkeypatch.setattr(lists, "CHUNK_MAX", 1)

    async def story(author: Author) -> None:
        wanted = await author.create_customer(email="ada@example.com")
        for _ in range(6):
            await author.create_customer(email="grace@example.com")
        await catch_up(dsn)
        async with open_past(author) as queries:
            query = {"email": "ada@example.com", "limit": "1"}
            pages: list[Any] = []
            while not pages or pages[-1]["has_more"]:
                if pages:
                    query["starting_after"] = f"position:{pages[-1]['next_position']}"
                pages.append(await call_audit(queries, "customer", query, "position:7"))
            assert [[item["id"] for item in page["data"]] for page in pages] == [[], [], [wanted]]

    run_story(dsn, story)


def test_lists_are_filtered_by_the_status_of_then(dsn: str) -> None:
    async def story(author: Author) -> None:
        dispute = await author.open_dispute(await author.create_charge())
        await author.run_command("create_endpoint", 0, 1)
        await author.run_command("create_customer", 0, 1)
        await author.run_command("create_session", 0, 1)
        customer = author.pick(Customer, 0).id
        session = author.pick(CustomerSession, 0)
        open_until = await fetch_head(author)
        await author.report_fact(dispute, "lost")
        await author.run_command("claim_session", 0, 1)
        await author.run_command("delete_customer", 0, 1)
        await catch_up(dsn)
        async with open_past(author) as queries:

            async def list_ids(object_type: str, at: int, **query: str) -> list[str]:
                body = await call_audit(queries, object_type, query, f"position:{at}")
                return [item["id"] for item in body["data"]]

            closed_at = await fetch_head(author)
            assert await list_ids("dispute", open_until, status="needs_response") == [dispute]
            assert await list_ids("dispute", closed_at, status="needs_response") == []
            assert await list_ids("dispute", closed_at, status="lost") == [dispute]
            assert await list_ids("customer_session", open_until, status="open") == [session.id]
            assert await list_ids("customer_session", closed_at, status="open") == []
            assert await list_ids("webhook_endpoint", closed_at, status="none") == []
            assert len(await list_ids("webhook_endpoint", closed_at, status="enabled")) == 1
            assert await list_ids("customer", open_until) == [customer]  # before its deletion
            assert await list_ids("customer", closed_at) == []
            public = await list_by_customer(queries, ACCOUNT, False, customer, limit=5, starting_after=None)
            mine = await call_audit(
                queries, "customer_session", {"customer": customer}, f"position:{closed_at}"
            )
            assert encode(mine["data"]) == encode(public["data"])

    run_story(dsn, story)


def test_another_accounts_lists_are_empty_and_its_objects_unknown(dsn: str) -> None:
    async def story(author: Author) -> None:
        customer = await author.create_customer(email="ada@example.com")
        await author.create_charge(customer=customer)
        await catch_up(dsn)
        async with open_past(author) as queries:
            for other in (AUDITOR_OF_OTHER, AUDITOR_OF_LIVE_MODE):
                assert (await call_audit(queries, "charge", {}, "position:2", other))["data"] == []
                with pytest.raises(UnknownReference):
                    await call_audit(queries, "charge", {"customer": customer}, "position:2", other)
                with pytest.raises(InvalidParameter, match="No such customer"):
                    await call_audit(queries, "customer", {"starting_after": customer}, "position:2", other)

    run_story(dsn, story)


def test_personal_data_is_shown_and_filtered_by_as_the_scope_allows(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_customer(email="ada@example.com", name="Ada")
        await catch_up(dsn)
        async with open_past(author) as queries:
            shown = (await call_audit(queries, "customer", {}, "position:1"))["data"]
            hidden = (await call_audit(queries, "customer", {}, "position:1", AUDITOR_WITHOUT_SCOPE))["data"]
            assert [(item["name"], item["email"]) for item in shown] == [("Ada", "ada@example.com")]
            assert [(item["name"], item["email"]) for item in hidden] == [(None, None)]
            with pytest.raises(Forbidden, match="personal_data"):
                await call_audit(
                    queries, "customer", {"email": "ada@example.com"}, "position:1", AUDITOR_WITHOUT_SCOPE
                )

    run_story(dsn, story)


BAD_QUERIES = {
    "unknown type": ({"type": "cat"}, "type"),
    "no type": ({"at": "0"}, "type"),
    "filter of another type": ({"type": "dispute", "email": "a"}, "email"),
    "status of what has none": ({"type": "customer", "status": "open"}, "status"),
    "backward page": ({"type": "dispute", "ending_before": "du_1"}, "ending_before"),
    "unknown cursor": ({"type": "dispute", "starting_after": "du_1"}, "starting_after"),
    "unknown cursor position": ({"type": "dispute", "starting_after": "position:9"}, "starting_after"),
    "unknown charge": ({"type": "dispute", "charge": "ch_1"}, "charge"),
    "unknown intent": ({"type": "charge", "payment_intent": "pi_1"}, "payment_intent"),
    "unknown moment": ({"type": "dispute", "at": "yesterday"}, "at"),
    "future position": ({"type": "dispute", "at": "position:999999999999"}, "at"),
    "bad created": ({"type": "dispute", "created[gt]": "soon"}, "created[gt]"),
    "bad expand": ({"type": "dispute", "expand[]": "data.cat"}, None),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
def test_a_bad_query_is_refused_and_names_the_parameter(operator: InternalClient, case: str) -> None:
    query, param = BAD_QUERIES[case]
    answer = operator.get(f"/audit/objects?{urlencode(query)}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].get("param") == param


def test_the_route_and_the_command_show_a_list(
    service: Service, account: Account, raw: Caller, operator: InternalClient
) -> None:
    customer = raw.customer(email="ada@example.com")
    first = int(raw.post("/v1/customers", {"name": "Ada"}).headers["ledger-position"])
    later = operator.get(f"/audit/objects?type=customer&at=position:{first}&email=ada@example.com").json()
    assert [item["id"] for item in later["data"]] == [customer["id"]]
    assert later["as_of"]["position"] == first
    before = operator.get(f"/audit/objects?type=customer&at=position:{first - 1}&limit=1").json()
    assert (before["data"], before["has_more"]) == ([customer], False)
    now = operator.get(f"/audit/objects?type=customer&at=position:{first}").json()["data"]
    command = run_command(service, account, "list", "customer", "--at", f"position:{first}", "--json")
    assert [item["id"] for item in json.loads(command)["data"]] == [item["id"] for item in now]
    table = run_command(service, account, "list", "customer", "--filter", "limit=1")
    assert table.startswith("id\tcreated")


def test_files_and_links_are_listed_with_their_urls(raw: Caller, operator: InternalClient) -> None:
    upload = raw.http.post(
        "/v1/files",
        data={"purpose": "dispute_evidence"},
        files={"file": ("a.png", b"\x89PNG\r\n\x1a\n", "image/png")},
        headers={"authorization": f"Bearer {raw.key}"},
    )
    file = upload.json()["id"]
    link = raw.post("/v1/file_links", {"file": file})
    position = link.headers["ledger-position"]
    for object_type, path, query in (
        ("file", "files", "purpose=dispute_evidence"),
        ("file", "files", "purpose=business_logo"),
        ("file_link", "file_links", f"file={file}&expired=false"),
        ("file_link", "file_links", "expired=true"),
    ):
        public = raw.get(f"/v1/{path}?{query}").json()
        past = operator.get(f"/audit/objects?type={object_type}&at=position:{position}&{query}").json()
        assert past["data"] == public["data"]
    raw.post(f"/v1/file_links/{link.json()['id']}", {"expires_at": "now"})
    past = operator.get(f"/audit/objects?type=file_link&at=position:{position}&expired=false").json()
    assert [item["id"] for item in past["data"]] == [link.json()["id"]]

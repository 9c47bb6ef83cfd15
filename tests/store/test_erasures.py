"""Keys and erasures among processes: what is appended is read the same by others, until it is erased."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.domain import resource
from ledger.domain.customer import Customer
from ledger.domain.event import DomainEvent
from ledger.errors import ObjectRedacted, Unavailable
from ledger.keys.data_keys import DataKeys
from ledger.keys.erasure_watch import LEASE_SECONDS
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec, evolve
from ledger.store.journal import Append, Change, VersionConflict
from ledger.store.log import read_log
from ledger.store.past_streams import PastRead
from ledger.store.replies import Reply, insert_reply
from ledger.store.store import Store
from tests.store.lossy_proxy import open_lossy_proxy
from tests.store.stores import (
    CAUSE,
    KEY,
    NOW,
    create_customer,
    fetch_rows,
    open_store,
    rename_customer,
    wait_until,
)

Result = TypeVar("Result")

_EMPTY = """
SET session_replication_role = replica;
TRUNCATE ledger.events, ledger.replies, ledger.appenders, ledger.data_keys, ledger.remnants;
"""


def publish(resource_id: str, customer: str | None, text: str, state: Any = None) -> Append:
    """A command that publishes a resource of a customer; of nobody without one."""
    events = resource.publish(
        state,
        resource_id=resource_id,
        account="acct_1",
        livemode=False,
        type="note",
        event_type="note.created",
        object={"id": resource_id, "object": "note", "customer": customer, "text": text},
        now=NOW,
    )
    return Append(CAUSE, [Change(event, evolve(state, event)) for event in events])


def erase(request_id: str, *subjects: str) -> Append:
    """A command that begins the erasure of subjects."""
    command = publish(request_id, None, "erase")
    return Append(CAUSE, command.changes, erased_subjects=subjects)


async def read_all(dsn: str) -> list[DomainEvent]:
    """The log as a process reads it that has just started."""
    async with open_connection(dsn, "ledger_api", name="test") as conn:
        return [recorded.event for recorded in await read_log(conn, Codec(KEY), 0, 10_000)]


async def run_again(run: Callable[[], Awaitable[Result]], attempts_max: int = 1000) -> Result:
    """Decided again when it has lost a race: it may not have heard of an erasure by another process."""
    for _ in range(attempts_max - 1):
        try:
            return await run()
        except VersionConflict:
            await asyncio.sleep(0)
    return await run()


def read_subjects(dsn: str) -> list[str]:
    return [row[0] for row in fetch_rows(dsn, "SELECT subject FROM ledger.data_keys ORDER BY subject")]


@st.composite
def operations(draw: st.DrawFn) -> tuple[str, int, str, str]:
    """What one of two processes does, with one of few objects."""
    what = draw(st.sampled_from(["create", "create", "rename", "publish", "publish", "erase", "stale"]))
    return what, draw(st.integers(0, 1)), draw(st.sampled_from("abc")), draw(st.sampled_from("xyz"))


def test_what_is_appended_is_read_the_same_by_others_and_what_is_erased_never_opens(dsn: str) -> None:
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(st.lists(operations(), max_size=10))
    def check(history: list[tuple[str, int, str, str]]) -> None:
        with psycopg.connect(dsn) as conn:
            conn.execute(_EMPTY.encode())
        asyncio.run(run(history))

    async def run(history: list[tuple[str, int, str, str]]) -> None:
        expected: list[tuple[DomainEvent, str]] = []
        erased: set[str] = set()
        async with open_store(dsn) as one, open_store(dsn) as other:
            for number, (what, process, name, other_name) in enumerate(history):
                store, keys = (one, other)[process], read_subjects(dsn)
                try:
                    command, subject = await run_again(
                        partial(decide, store, what, name, other_name, number),
                        attempts_max=1 if what == "stale" else 2,
                    )
                except (ObjectRedacted, VersionConflict):
                    assert what == "stale" or not erased.isdisjoint(read_subjects(dsn))
                    assert read_subjects(dsn) == keys
                    continue
                if command is not None:
                    assert what != "stale"
                    expected += [(change.event, subject) for change in command.changes]
                    erased |= set(command.erased_subjects)
        await check_log(expected, erased)

    async def check_log(expected: list[tuple[DomainEvent, str]], erased: set[str]) -> None:
        events = await read_all(dsn)
        assert len(events) == len(expected)
        for event, (appended, subject) in zip(events, expected, strict=True):
            if subject not in erased:
                assert event == appended
                assert event.redaction is None
            else:
                assert event.redaction == "processing"
                assert all(getattr(event, field) is None for field in event.PERSONAL)

    check()


async def decide(store: Store, what: str, *names: Any) -> tuple[Append | None, str]:
    """Append the command, if there is one."""
    command, subject = await make_command(store, what, *names)
    if command is not None:
        await store.journal.append(command)
    return command, subject


async def make_command(
    store: Store, what: str, name: str, other_name: str, number: int
) -> tuple[Append | None, str]:
    """The command, decided on what the process reads, and whose key seals its event."""
    customer = f"cus_{name}"
    state = await store.streams.read(customer)
    match what:
        case "create" if state is None:
            return create_customer(customer, name=f"name {number}"), customer
        case "rename" if isinstance(state, Customer):
            return rename_customer(state, f"name {number}"), customer
        case "publish":
            stream = f"note_{number}"
            return publish(stream, customer, f"text {number}"), customer
        case "erase":
            return erase(f"prj_{number}", customer, f"cus_{other_name}"), f"prj_{number}"
        case "stale":
            return create_customer(f"cus_{number}", guards={customer: 99}), customer
    return None, customer


def test_two_processes_that_make_the_key_of_one_subject_at_once_keep_one(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as one, open_store(dsn) as other:
            for turn in range(10):
                await asyncio.gather(
                    *(
                        run_again(
                            partial(store.journal.append, publish(f"note_{turn}_{name}", f"cus_{turn}", name))
                        )
                        for store, name in ((one, "a"), (other, "b"), (one, "c"))
                    )
                )
        events = await read_all(dsn)
        assert sorted(event.object["text"] for event in events) == ["a"] * 10 + ["b"] * 10 + ["c"] * 10  # type: ignore[attr-defined]

    asyncio.run(main())
    assert len([each for each in read_subjects(dsn) if each.startswith("cus_")]) == 10


def test_a_customer_is_created_whose_key_another_service_has_brought_about(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as one, open_store(dsn) as other:
            await one.journal.append(publish("note_1", "cus_1", "before"))
            await other.journal.append(create_customer("cus_1"))
            await other.journal.append(create_customer("cus_2"))
        assert all(event.redaction is None for event in await read_all(dsn))

    asyncio.run(main())


@pytest.mark.parametrize("loss", ["request", "answer"])
def test_a_batch_that_is_sent_again_keeps_its_key(dsn: str, loss: Any) -> None:
    async def main() -> None:
        async with open_lossy_proxy(dsn) as (way, between), open_store(way) as store:
            await store.journal.append(create_customer("cus_0"))
            for number in range(1, 4):
                between.lose("ledger journal", loss)
                await store.journal.append(create_customer(f"cus_{number}", name=f"name {number}"))
                await store.journal.append(
                    rename_customer(store.streams.get_cached(f"cus_{number}"), f"new {number}")
                )
        *_, last = await read_all(dsn)
        assert last.changes == {"name": "new 3"}  # type: ignore[attr-defined]

    asyncio.run(main())
    assert read_subjects(dsn) == [f"cus_{number}" for number in range(4)]


def test_a_refused_command_leaves_no_key(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1"))
            commands = [
                create_customer("cus_2", guards={"cus_1": 7}),
                create_customer("cus_3"),
                publish("note_1", "cus_4", "text"),
            ]
            outcomes = await asyncio.gather(*map(store.journal.append, commands), return_exceptions=True)
            assert isinstance(outcomes[0], VersionConflict)
            assert outcomes[1:] == [2, 3]

    asyncio.run(main())
    assert read_subjects(dsn) == ["cus_1", "cus_3", "cus_4"]


def test_nothing_is_sealed_for_an_erased_subject_nor_by_a_process_that_has_not_heard_of_it(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as one, open_store(dsn) as other:
            await one.journal.append(create_customer("cus_1"))
            state = await other.streams.read("cus_1")
            await other.watch.close()
            before = other.watch.epoch
            await one.journal.append(erase("prj_1", "cus_1"))
            assert one.streams.get_cached("cus_1") is None
            assert other.streams.get_cached("cus_1") == state  # it has not heard
            with pytest.raises(VersionConflict):
                await other.journal.append(rename_customer(state, "Grace"))
            assert other.watch.epoch == before + 1  # but now it has
            assert other.streams.get_cached("cus_1") is None
            with pytest.raises(ObjectRedacted):
                await other.journal.append(rename_customer(await other.streams.read("cus_1"), "Grace"))
            await other.journal.append(create_customer("cus_2"))

    asyncio.run(main())


def test_a_process_that_is_cut_off_uses_nothing_that_it_has_cached_after_its_lease(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1"))
            await store.past_streams.read(PastRead("cus_1", opened=True, position=1))
            await store.watch.close()
            assert store.streams.get_cached("cus_1") is not None
            assert store.past_streams.get_cached("cus_1", opened=True, version_max=1) is not None
            await asyncio.sleep(LEASE_SECONDS)
            assert store.streams.get_cached("cus_1") is None
            assert store.past_streams.get_cached("cus_1", opened=True, version_max=1) is None
            assert store.codec.data_keys.get_cached("cus_1") is None

    asyncio.run(main())


def test_all_processes_hear_of_an_erasure_at_once(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as one, open_store(dsn) as other:
            await one.journal.append(create_customer("cus_1"))
            await other.streams.read("cus_1")
            assert other.codec.data_keys.get_cached("cus_1") is not None
            await asyncio.sleep(0.1)  # both listen
            await one.journal.append(erase("prj_1", "cus_1"))
            await wait_until(lambda: other.streams.get_cached("cus_1") is None, seconds=0.4)
            assert other.codec.data_keys.get_cached("cus_1") is None

    asyncio.run(main())


def test_an_erased_event_is_read_with_what_stays_of_it(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1"))
            await store.journal.append(erase("prj_1", "cus_1"))
            [event, _] = await read_all(dsn)
            assert (event.name, event.redaction) == (None, "processing")  # type: ignore[attr-defined]
            async with open_connection(dsn, "ledger_api", name="test") as conn:
                [open_event, _] = await read_log(conn, Codec(KEY).for_erasure(), 0, 10)
                assert open_event.event.name == "Ada"  # type: ignore[attr-defined]
                await conn.execute(
                    "INSERT INTO ledger.remnants VALUES ('cus_1', 1, '{\"name\":\"[redacted]\"}')"
                )
                await conn.execute(
                    "UPDATE ledger.data_keys SET wrapped = NULL, wrapped_by = NULL, destroyed_at = now() "
                    "WHERE subject = 'cus_1'"
                )
                [closed, _] = await read_log(conn, Codec(KEY).for_erasure(), 0, 10)
                assert (closed.event.name, closed.event.redaction) == ("[redacted]", "redacted")  # type: ignore[attr-defined]
            assert (await store.streams.read("cus_1")).name == "[redacted]"  # type: ignore[union-attr]

    asyncio.run(main())


def test_a_log_is_read_with_a_cache_that_is_smaller_than_a_page(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await asyncio.gather(
                *(store.journal.append(create_customer(f"cus_{n}", name=f"n{n}")) for n in range(60))
            )
            codec = Codec(DataKeys(KEY, store.watch, cached_max=2))
            async with open_connection(dsn, "ledger_api", name="test") as conn:
                read = await read_log(conn, codec, 0, 100)
            assert {each.event.name for each in read} == {f"n{n}" for n in range(60)}  # type: ignore[attr-defined]
            assert len(codec.data_keys) == 2

    asyncio.run(main())


def test_no_reply_is_kept_for_whom_an_erasure_has_begun(dsn: str) -> None:
    """The Event that it shows may have been read before."""

    async def main() -> None:
        async with open_store(dsn) as store, open_connection(dsn, "ledger_api", name="test") as conn:
            await store.journal.append(create_customer("cus_1", name="Ada"))
            reply = Reply("print", 200, '{"name":"Ada"}', subject="cus_1")

            async def keep(key: str) -> None:
                async with conn.transaction():
                    cause = CAUSE._replace(idempotency_key=key)
                    await insert_reply(conn, store.codec.data_keys, cause, reply, NOW)

            await keep("before")
            await store.journal.append(erase("req_1", "cus_1"))
            with pytest.raises(Unavailable):
                await keep("after")

    asyncio.run(main())
    assert len(fetch_rows(dsn, "SELECT key FROM ledger.replies")) == 1

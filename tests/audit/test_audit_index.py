"""The audit index: what its rows hold, and that a row which differs from the log is found."""

from __future__ import annotations

from functools import partial

from ledger.audit.candidates import CREATED_MAX, CandidateQuery, find_candidates
from ledger.clock import Clock
from ledger.postgres.connections import open_connection
from ledger.store.codec import Codec
from ledger.store.index_keys import derive_creation_key, derive_key
from projections.read_models.audit_index import AUDIT_INDEX
from projections.rebuild import generations
from projections.rebuild.verification import verify
from tests.projections.histories import ACCOUNT, KEY, Author, catch_up, run_story
from tests.projections.rebuilds import run_rebuild

_SELECT_ROWS = """
SELECT id, position, by_owner, by_topic, by_actor, by_actor_and_topic, by_request, by_idempotency_key,
       by_creation, aggregate, created
FROM projections.audit_keys ORDER BY id
"""
# Row 2 differs, row 3 is missing, and no event accounts for row 99.
_DAMAGE = (
    "UPDATE projections.audit_keys SET by_actor = 7 WHERE id = 2",
    "DELETE FROM projections.audit_keys WHERE id = 3",
    "INSERT INTO projections.audit_keys (generation, id, position, by_owner, by_topic)"
    " VALUES (1, 99, 99, 1, 1)",
)


def test_each_event_has_a_row_and_the_first_of_a_stream_says_what_it_created(dsn: str) -> None:
    async def story(author: Author) -> None:
        began_at = author.now
        customer = await author.create_customer(email="jenny@example.com")  # 1
        await author.update_customer(customer, name="Jenny")  # 2
        await author.run_command("create_session", 0, 0)  # 3
        await author.run_command("publish_resource", 0, 1)  # 4: created says 1
        await author.run_command("import_event", 0, 1)  # 5: imported Events have no `created`
        await catch_up(dsn, projections=[AUDIT_INDEX])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            rows = await (await conn.execute(_SELECT_ROWS)).fetchall()
        expected = [
            ("customer.created", "customer"),
            ("customer.updated", None),
            ("customer_session.created", "customer_session"),
            ("resource.published", "invoice"),
            ("past_event.imported", "event"),
        ]
        key = partial(derive_key, ACCOUNT, False)
        times = [row[-1] for row in rows]
        assert rows == [
            (
                at, at, key(), key(topic), key("key_test"), key("key_test", topic), key(f"req_{at}"),
                key(f"key-{at}"),
                aggregate and derive_creation_key(ACCOUNT, False, aggregate, created), aggregate, created,
            )
            for at, ((topic, aggregate), created) in enumerate(zip(expected, times, strict=True), 1)
        ]  # fmt: skip
        assert (times[1], times[3]) == (None, 1)
        assert all(began_at <= times[number] <= author.now for number in (0, 2, 4))

    run_story(dsn, story)


def test_rows_that_differ_from_the_log_are_found_by_their_position(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(3):
            await author.create_customer(email="jenny@example.com")
        await catch_up(dsn, projections=[AUDIT_INDEX])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            for statement in _DAMAGE:
                await conn.execute(statement)
            for sample, keys in ((20, {"2", "3"}), (None, {"2", "3", "99"})):
                (result,) = await verify(dsn, Codec(KEY), Clock(movable=True), [AUDIT_INDEX], sample=sample)
                assert (set(result.keys), result.error) == (keys, None)
            assert (await run_rebuild(dsn, [AUDIT_INDEX])).state == "differing"
            comparison = await generations.load_last_comparison(conn, "audit_keys")
            differences = {each["key"]: each for each in comparison["differences"]}
            assert differences.keys() == {"2", "3", "99"}
            assert differences["2"]["live"] == {"by_actor": 7}

    run_story(dsn, story)


def test_creation_keys_are_in_the_order_of_time_and_apart_by_owner_and_type() -> None:
    times = (0, 1, 1_800_000_000, 2**40 - 1)
    keys = [derive_creation_key(ACCOUNT, False, "invoice", created) for created in times]
    assert keys == sorted(set(keys))
    assert all(0 <= key < 2**63 for key in keys)
    assert keys[-1] == derive_creation_key(ACCOUNT, False, "invoice", 2**53), "later times are one"
    others = {derive_creation_key(*owner) >> 40 for owner in (
        (ACCOUNT, False, "invoice", 0), (ACCOUNT, True, "invoice", 0), (ACCOUNT, False, "charge", 0),
        ("acct_other", False, "invoice", 0),
    )}  # fmt: skip
    assert len(others) == 4


def test_an_object_created_after_all_keys_is_listed(dsn: str) -> None:
    """A published resource may say that it was created in the far future."""

    async def story(author: Author) -> None:
        await author.run_command("publish_resource", 0, 1)
        await catch_up(dsn, projections=[AUDIT_INDEX])
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            key = derive_creation_key(ACCOUNT, False, "invoice", 2**53)
            await conn.execute(
                "UPDATE projections.audit_keys SET created = %s, by_creation = %s", (2**53, key)
            )
            query = CandidateQuery(
                account=ACCOUNT, livemode=False, type="invoice", topics=["resource.published"], upto=1,
                created_min=0, created_max=CREATED_MAX, before=None, first=11, named={},
            )  # fmt: skip
            found = [each async for each in find_candidates(conn, Codec(KEY), query)]
            assert [each.position for each in found] == [1]

    run_story(dsn, story)

"""The Events of one object in order, for endpoints that ask for it, whatever else happens to deliveries."""

from __future__ import annotations

import asyncio
import json
import threading

import psycopg
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger.domain import webhook_endpoint_decisions
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.webhooks.schedule import order
from tests.projections.histories import Author, catch_up, run_story
from tests.webhooks.claims import Claims, open_claims
from tests.webhooks.receiver import Receiver, ScriptedResponse, wait_until
from tests.webhooks.test_fanout import create_endpoint, run_webhooks

SEND_AGAIN = """
UPDATE webhooks.deliveries SET state = 'pending', due_at = to_timestamp(%(now)s) WHERE id = %(id)s
"""
WAITS_FOR_LOCK = """
SELECT FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%tries = tries + 1%'
"""
OBJECTS = (None, "cus_1", "cus_2")


class OrderMachine(RuleBasedStateMachine):
    """Deliveries of two objects, and of none, that are claimed, fail, succeed and are sent again."""

    claims: Claims

    def __init__(self) -> None:
        super().__init__()
        self.claims.clear()
        self.objects: dict[str, str | None] = {}
        self.under_way: set[str] = set()
        self.ended: list[str] = []

    def get_earlier(self, delivery: str) -> set[str]:
        """Those of the same object that go before it, and have not ended."""
        object_id = self.objects[delivery]
        return {
            each
            for each, of in self.objects.items()
            if object_id is not None and of == object_id and each < delivery and each not in self.ended
        }

    @rule(object_id=st.sampled_from(OBJECTS), count=st.integers(1, 3))
    def add(self, object_id: str | None, count: int) -> None:
        for _ in range(count):
            self.objects[self.claims.add(object_id=object_id)] = object_id

    @rule()
    def claim(self) -> None:
        for claimed in self.claims.claim(limit=3):
            assert self.get_earlier(claimed.id) == set()
            assert claimed.object == self.objects[claimed.id]
            self.under_way.add(claimed.id)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), ends=st.booleans())
    def attempt(self, data: st.DataObject, ends: bool) -> None:
        delivery = data.draw(st.sampled_from(sorted(self.under_way)))
        self.under_way.remove(delivery)
        if not ends:
            self.claims.record(delivery, "pending", retry_seconds=5)
            return
        self.claims.record(delivery, data.draw(st.sampled_from(["delivered", "failed", "dropped"])))
        self.ended.append(delivery)

    @rule()
    def advance(self) -> None:
        self.claims.now += 5

    @rule()
    def crash(self) -> None:
        self.claims.execute("UPDATE webhooks.deliveries SET leased_until = '-infinity'")
        self.under_way = set()

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """As a retry and a replay do."""
        delivery = self.ended.pop(data.draw(st.integers(0, len(self.ended) - 1)))
        self.claims.execute(SEND_AGAIN, id=delivery, now=self.claims.now)

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        """The first one of each object is not on hold."""
        heads: dict[str, bool] = {}
        for delivery, object_id, _, is_on_hold in self.claims.list_pending():
            if object_id is None:
                assert not is_on_hold
            elif object_id not in heads:
                assert not is_on_hold, delivery
                heads[object_id] = True


def test_an_event_never_goes_out_before_an_earlier_one_of_its_object(dsn: str) -> None:
    class Machine(OrderMachine):
        pass

    with open_claims(dsn) as Machine.claims:
        run_state_machine_as_test(Machine, settings=settings(max_examples=25, stateful_step_count=40))


def test_those_that_wait_are_not_gone_through_by_a_claim(dsn: str) -> None:
    with open_claims(dsn) as claims:
        first, *waiting = [claims.add(object_id="cus_1") for _ in range(5)]
        assert [row[3] for row in claims.list_pending()] == [False, *[True] * 4]
        assert [claimed.id for claimed in claims.claim()] == [first]
        claims.record(first, "delivered")
        assert [claimed.id for claimed in claims.claim()] == [waiting[0]]


def test_after_many_have_ended_at_once_the_next_ones_go_out(dsn: str) -> None:
    with open_claims(dsn) as claims:
        for object_id in ("cus_1", "cus_2"):
            claims.add(object_id=object_id)
        second = [claims.add(object_id=object_id) for object_id in ("cus_1", "cus_2")]
        claims.execute("DELETE FROM webhooks.deliveries WHERE position <= 2")
        assert claims.claim() == []
        assert claims.run(order.release_first(claims._conn, claims.now)) == 2
        assert {claimed.id for claimed in claims.claim()} == set(second)


def test_an_event_that_is_recorded_while_the_one_before_it_ends_is_not_forgotten(dsn: str) -> None:
    """The end of a delivery waits for the fan-out that saw it pending, and sees what that has inserted."""
    with open_claims(dsn) as claims, psycopg.connect(dsn) as fanout:
        first = claims.add(object_id="cus_1")
        fanout.execute(
            "INSERT INTO webhooks.deliveries"
            " (id, event, endpoint, account, livemode, created, position, ordinal, type, object, due_at)"
            " VALUES ('dlv_2', 'evt_2', 'we_1', 'acct_1', false, 0, 2, 0, 'customer.updated', 'cus_1', now())"
        )
        fanout.execute(order._HOLD.encode(), {"ids": ["dlv_2"]})

        ended = threading.Thread(target=end_delivery, args=(dsn, first))
        ended.start()
        with psycopg.connect(dsn, autocommit=True) as observer:
            wait_until(lambda: observer.execute(WAITS_FOR_LOCK).fetchall())
        fanout.commit()
        ended.join()
        assert [claimed.id for claimed in claims.claim()] == ["dlv_2"]


def end_delivery(dsn: str, delivery: str) -> None:
    with open_claims(dsn) as claims:
        claims.record(delivery, "delivered")


async def configure(author: Author, endpoint: str, **options: bool) -> None:
    state = author.states[endpoint]
    assert isinstance(state, WebhookEndpoint)
    await author.append(webhook_endpoint_decisions.configure(state, options, now=author.now))


def read_names(receiver: Receiver, path: str) -> list[tuple[str, int]]:
    """The name of each customer as it was received, in order, with the sequence number."""
    return [
        (json.loads(request.body)["data"]["object"]["name"], int(request.headers["ledger-sequence"]))
        for request in receiver.requests_to(path)
    ]


def test_a_receiver_gets_the_events_of_an_object_in_order_and_others_meanwhile(
    dsn: str, receiver: Receiver, path: str
) -> None:
    receiver.scripts[path] = [ScriptedResponse(500), ScriptedResponse(500), ScriptedResponse(200)]

    async def story(author: Author) -> None:
        endpoint = await create_endpoint(author, receiver.url(path))
        await configure(author, endpoint, ordered=True)
        ada = await author.create_customer(name="1")
        for number in range(2, 6):
            await author.update_customer(ada, name=str(number))
        await author.create_customer(name="other")
        await catch_up(dsn)
        async with run_webhooks(author, webhook_retry_seconds_test=(0.2, 0.2, 0.2)):
            await asyncio.to_thread(wait_until, lambda: len(receiver.requests_to(path)) == 8)

    run_story(dsn, story)
    received = read_names(receiver, path)
    names = [name for name, _ in received if name != "other"]
    assert list(dict.fromkeys(names)) == ["1", "2", "3", "4", "5"]
    assert names == sorted(names)
    assert [name for name, _ in received].index("other") < [name for name, _ in received].index("5")
    numbers = dict(received)
    assert sorted(numbers, key=numbers.__getitem__) == ["1", "2", "3", "4", "5", "other"]

"""What no standby has goes no further: no list, Event, webhook, signature or recorded access shows it.

After a crash the primary restarts with all that it had written, also what it had acknowledged to nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.service import ok
from tests.postgres.standby import wait_until
from tests.replication.conftest import Stage
from tests.webhooks.receiver import Receiver, run_receiver

_POSITION = "SELECT position FROM ledger.head"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def test_what_a_crash_leaves_unreplicated_goes_no_further(stage: Stage, receiver: Receiver) -> None:
    caller, primary = stage.caller, stage.servers.primary
    endpoint = {"url": receiver.url("/hook"), "enabled_events[]": "customer.created"}
    ok(caller.post("/v1/webhook_endpoints", endpoint))
    first = caller.customer(name="Ada")["id"]
    receiver.wait_for("/hook", 1)
    caller.read_list("/v1/customers")

    stage.servers.pause_standby()
    append = stage.begin(caller.post, "/v1/customers", {"name": "Eve"})
    stage.wait_for_standby("journal")
    replicated = primary.fetch_value(_POSITION, "ledger")
    primary.crash()
    primary.start()
    assert not append.done() or append.result().status_code >= 500
    # Seen by whoever reads the log itself …
    assert primary.fetch_value(_POSITION, "ledger") == int(str(replicated)) + 1
    # … and the projections, the sealer and the sender have looked at it:
    stage.wait_for_standby("durability")
    assert [each["id"] for each in ok(caller.get("/v1/customers"))["data"]] == [first]
    assert [each["data"]["object"]["id"] for each in _list_created(stage)] == [first]
    assert int(str(_sealed_size(stage))) <= int(str(replicated))
    assert len(receiver.requests) == 1
    access = stage.begin(stage.operator.get, f"/internal/v1/audit/objects/{first}")
    wait_until(lambda: primary.fetch_value("SELECT number FROM ledger.audit_accesses", "ledger"))
    ok(caller.get("/v1/customers"))  # a list that waits, longer than an answer takes
    assert not access.done()

    stage.servers.resume_standby()
    assert ok(access.result())["object"]
    wait_until(lambda: len(_list_created(stage)) == 2)
    receiver.wait_for("/hook", 2)
    wait_until(lambda: _sealed_size(stage) == primary.fetch_value(_POSITION, "ledger"))


def _list_created(stage: Stage) -> list[dict[str, dict[str, dict[str, str]]]]:
    events: list[dict[str, dict[str, dict[str, str]]]] = ok(
        stage.caller.get("/v1/events?type=customer.created")
    )["data"]
    return events


def _sealed_size(stage: Stage) -> object:
    return stage.servers.primary.fetch_value("SELECT size FROM ledger.tree_head", "ledger")

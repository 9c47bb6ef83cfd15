"""`stripe v2 …`: the commands that send and read JSON, and `get` with a path under /v2."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from ledger.wire.thin_events import to_thin_id
from tests.api.service import Caller, ok
from tests.stripe_cli.cli import StripeCli, needs_stripe_cli

pytestmark = needs_stripe_cli

EVENTS = ("v2", "core", "events")


def test_thin_events_are_listed_by_object_and_type_page_by_page(cli: StripeCli, raw: Caller) -> None:
    customer, other = raw.customer(), raw.customer()
    ok(raw.post(f"/v1/customers/{customer['id']}", {"name": "Jenny Rosen"}))
    newest, *older = [to_thin_id(event["id"]) for event in raw.events()[::-1]]
    page = cli.call(*EVENTS, "list", "--limit", "1")
    assert [event["id"] for event in page["data"]] == [newest]
    (token,) = parse_qs(urlsplit(page["next_page_url"]).query)["page"]
    rest = cli.call(*EVENTS, "list", "--limit", "5", "--page", token)
    assert [event["id"] for event in rest["data"]] == older
    types = ("--types", "v1.customer.created", "--types", "v1.customer.deleted")
    (created,) = cli.call(*EVENTS, "list", "--object-id", customer["id"], *types)["data"]
    assert (created["type"], created["related_object"]["id"]) == ("v1.customer.created", customer["id"])
    assert cli.call(*EVENTS, "list", "--object-id", other["id"])["data"][0]["id"] in older
    since = cli.call("get", f"/v2/core/events?limit=1&created[gte]={created['created']}")
    assert since["data"] == page["data"]


def test_a_thin_event_is_retrieved(cli: StripeCli, raw: Caller) -> None:
    raw.customer()
    (snapshot,) = raw.events()
    thin = cli.call(*EVENTS, "retrieve", to_thin_id(snapshot["id"]))
    assert (thin["object"], thin["type"]) == ("v2.core.event", "v1.customer.created")
    assert thin["snapshot_event"] == snapshot["id"]
    assert thin["reason"]["request"]["id"] == snapshot["request"]["id"]
    assert cli.call("get", f"/v2/core/events/{thin['id']}") == thin


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((*EVENTS, "retrieve", "evt_thin_none"), "No such thin event: 'evt_thin_none'"),
        ((*EVENTS, "list", "--types", "v1.charge.capture"), "v1.charge.captured"),
    ],
    ids=["unknown event", "unknown type"],
)
def test_what_is_refused_says_why(arguments: tuple[str, ...], part: str, cli: StripeCli) -> None:
    completed = cli.run(*arguments)
    assert part in completed.answer["error"]["message"]

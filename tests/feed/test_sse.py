"""The feed as server-sent events."""

from __future__ import annotations

import pytest

from tests.api.service import Account, Caller, Registrar, assert_refused
from tests.feed.streams import open_sse, read_feed
from tests.internal.conftest import InternalClient


def test_a_stream_shows_what_happens_and_resumes(raw: Caller, reader: InternalClient) -> None:
    first = raw.customer()
    with open_sse(reader) as events:
        assert next(events).kind == "retry"
        item = next(events)
        assert (item.kind, item.id) == ("message", item.data["position"])
        assert item.data["object"] == first["id"]
        caught_up = next(events)
        assert caught_up.kind == "progress"
        assert caught_up.data == {"progress": caught_up.id, "head": caught_up.id}
        second = raw.customer()
        item = next(each for each in events if each.kind == "message")
        assert item.data["object"] == second["id"]
    third = raw.customer()
    with open_sse(reader, "after=0", {"last-event-id": str(item.id)}) as events:
        assert next(each for each in events if each.kind == "message").data["object"] == third["id"]


def test_a_reader_of_others_events_is_told_the_progress(
    raw: Caller, account: Account, reader: InternalClient, registrar: Registrar
) -> None:
    other = Caller(raw.http, registrar.account().secret)
    with open_sse(reader) as events:
        before = next(each for each in events if each.kind == "progress")
        other.customer()
        after = next(each for each in events if each.kind == "progress")
        assert after.data["progress"] > before.data["progress"]


def test_a_long_poll_waits_for_an_item(raw: Caller, reader: InternalClient) -> None:
    after = read_feed(reader).progress
    empty = read_feed(reader, f"after={after}&wait=0.2")
    assert not empty.items
    with open_sse(reader, f"after={after}") as events:
        assert next(events).kind == "retry"
        customer = raw.customer()
        assert next(each for each in events if each.kind == "message").data["object"] == customer["id"]
    assert read_feed(reader, f"after={after}&wait=20").items[0]["object"] == customer["id"]


def test_parameters_of_ndjson_are_refused_for_a_stream(reader: InternalClient) -> None:
    answer = reader.call("GET", "/feed?wait=1", headers={"accept": "text/event-stream"})
    assert_refused(answer, param="wait", message="server-sent events have no end")


@pytest.mark.parametrize("last_id", ["x", "-1", "1,2", "1.0", str(2**63)])
def test_a_last_id_that_is_no_position_is_refused(reader: InternalClient, last_id: str) -> None:
    answer = reader.call("GET", "/feed", headers={"accept": "text/event-stream", "last-event-id": last_id})
    assert_refused(answer, param="Last-Event-ID", message="a position")


def test_a_last_id_of_the_future_is_refused_by_its_name(reader: InternalClient) -> None:
    answer = reader.call("GET", "/feed", headers={"accept": "text/event-stream", "last-event-id": "99999999"})
    assert_refused(answer, code="position_from_the_future", param="Last-Event-ID", message="the last one is")


def test_an_empty_last_id_is_none(raw: Caller, reader: InternalClient) -> None:
    after = read_feed(reader).progress
    customer = raw.customer()
    with open_sse(reader, f"after={after}", {"last-event-id": "", "accept": "Text/Event-Stream"}) as events:
        assert next(each for each in events if each.kind == "message").data["object"] == customer["id"]


def test_no_line_is_empty_before_the_first_event(raw: Caller, reader: InternalClient) -> None:
    raw.customer()
    headers = {"authorization": f"Bearer {reader.key}", "accept": "text/event-stream"}
    with reader.http.stream("GET", "/internal/v1/feed", headers=headers) as response:
        lines = response.iter_lines()
        assert next(lines) == "retry: 1000"
        assert next(lines).startswith("id: ")

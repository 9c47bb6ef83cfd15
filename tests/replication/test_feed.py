"""The feed by position shows what a standby has, and no more."""

from __future__ import annotations

import json

import httpx

from tests.feed.streams import parse_sse
from tests.replication.conftest import Stage

_POSITION = "SELECT position FROM ledger.head"


def test_no_reader_sees_what_no_standby_has(stage: Stage) -> None:
    caller, primary = stage.caller, stage.servers.primary
    first = caller.customer(name="Ada")["id"]
    headers = {"authorization": f"Bearer {stage.operator.key}", "accept": "text/event-stream"}
    with (
        httpx.Client(base_url=stage.operator.http.base_url, timeout=60) as http,
        http.stream("GET", "/internal/v1/feed?types=customer.created", headers=headers) as stream,
    ):
        events = (event for event in parse_sse(stream.iter_lines()) if event.kind == "message")
        assert next(events).data["object"] == first

        stage.servers.pause_standby()
        append = stage.begin(caller.post, "/v1/customers", {"name": "Eve"})
        stage.wait_for_standby("journal")
        replicated = int(str(primary.fetch_value(_POSITION, "ledger")))
        primary.crash()
        primary.start()
        assert not append.done() or append.result().status_code >= 500
        # Whoever reads the log itself sees it …
        assert int(str(primary.fetch_value(_POSITION, "ledger"))) == replicated + 1
        # … and the feed does not, though the position is none of the future:
        for query in ("", f"?after={replicated + 1}"):
            *items, progress = (json.loads(line) for line in _read(stage, query))
            assert all(item["position"] <= replicated for item in items)
            assert progress["head"] <= replicated + 1

        stage.servers.resume_standby()
        item = next(events)  # on the stream that has outlived it all
        assert item.id == replicated + 1
        assert item.data["object"] != first
        *items, progress = (json.loads(line) for line in _read(stage, f"?after={replicated}"))
        assert items[0] == item.data
        assert progress["progress"] > replicated


def test_a_reader_ahead_of_the_standbys_does_not_show_others_what_they_lack(stage: Stage) -> None:
    stage.leave_unreplicated("/v1/customers", {"name": "Eve"})
    head = int(str(stage.servers.primary.fetch_value(_POSITION, "ledger")))
    headers = {"authorization": f"Bearer {stage.operator.key}", "accept": "text/event-stream"}
    with (
        httpx.Client(base_url=stage.operator.http.base_url, timeout=60) as http,
        http.stream("GET", f"/internal/v1/feed?after={head}", headers=headers) as stream,
    ):
        assert next(event for event in parse_sse(stream.iter_lines()) if event.kind == "progress").id == head
        (progress,) = (json.loads(line) for line in _read(stage, f"?after={head - 1}&wait=1"))
        assert progress == {"progress": head - 1, "head": head - 1}
        stage.servers.resume_standby()
        item, _ = (json.loads(line) for line in _read(stage, f"?after={head - 1}&wait=30"))
        assert item["position"] == head


def _read(stage: Stage, query: str) -> list[str]:
    answer = stage.operator.get(f"/internal/v1/feed{query}")
    assert answer.status_code == 200, answer.text
    return answer.text.splitlines()

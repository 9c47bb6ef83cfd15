"""How streams end: with the process, with their key, and when the client comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.api.service import Caller, Registrar, Service
from tests.conftest import Cluster
from tests.feed.streams import open_sse, read_feed
from tests.internal.conftest import InternalClient


@pytest.fixture
def ended(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that the test may end."""
    with cluster.create_database() as dsn:
        service = Service(dsn, tmp_path_factory.mktemp("feed"))
        yield service


def test_streams_and_long_polls_end_whole_when_the_process_is_to_end(ended: Service) -> None:
    registrar = Registrar(ended.dsn)
    account = registrar.account()
    key = registrar.key(account.id, "rk", scopes=["feed"])[1]
    registrar.close()
    with httpx.Client(base_url=ended.url, timeout=30) as http, httpx.Client(base_url=ended.url) as other:
        reader = InternalClient(http, key)
        Caller(http, account.secret).customer()
        after = read_feed(reader).progress
        poll = {"authorization": f"Bearer {key}"}
        with (
            other.stream(
                "GET", f"/internal/v1/feed?after={after}&wait=60", headers=poll, timeout=30
            ) as waits,
            open_sse(reader) as events,
        ):
            assert [next(events).kind for _ in range(3)] == ["retry", "message", "progress"]
            began = time.monotonic()
            ended.stop()
            assert time.monotonic() - began < 5
            # Neither raises that the body was cut.
            assert list(events) == []
            waits.read()
            assert json.loads(waits.text) == {"progress": after, "head": after}


def test_a_stream_ends_when_its_key_is_revoked(
    reader: InternalClient, raw: Caller, registrar: Registrar
) -> None:
    key_id, key = registrar.key(registrar.account().id, "rk", scopes=["ledger_feed"])
    with (
        open_sse(InternalClient(reader.http, key)) as events,
        open_sse(InternalClient(reader.http, reader.key)) as others,
    ):
        assert next(events).kind == "retry"
        registrar.revoke(key_id)
        began = time.monotonic()
        for _ in events:
            pass
        assert time.monotonic() - began < 9
        assert next(others).kind == "retry"
        customer = raw.customer()
        assert next(each for each in others if each.kind == "message").data["object"] == customer["id"]

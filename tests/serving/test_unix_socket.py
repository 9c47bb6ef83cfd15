"""LEDGER_UNIX_SOCKET: the API on a Unix socket beside its port, as the Stripe CLI can use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from websockets.sync.client import unix_connect

from ledger.cli.service.unix_listener import open_unix_listener
from ledger.errors import SettingError
from tests.conftest import Cluster
from tests.serving.process import SERVICE_KEY, ServeProcess, list_children, run_refused, run_serve
from tests.serving.test_shutdown import create_secret
from tests.store.stores import head_locked, wait_until


class OnSocket(NamedTuple):
    """A service of two API processes that listens at `path` as well, and a secret key."""

    service: ServeProcess
    path: Path
    key: str
    dsn: str

    def open(self, **options: Any) -> httpx.Client:
        """A client that knows no port, with the base URL that the Stripe CLI has by default."""
        transport = httpx.HTTPTransport(uds=str(self.path))
        return httpx.Client(
            base_url="http://api.stripe.com", transport=transport, auth=(self.key, ""), timeout=20, **options
        )


@pytest.fixture(scope="module")
def on_socket(cluster: Cluster, place: Path) -> Iterator[OnSocket]:
    path = place / "ledger.sock"
    with cluster.create_database() as dsn:
        settings = {"database_url": dsn, "secret_key": SERVICE_KEY, "workers": 2, "unix_socket": path}
        with run_serve(place / "on-socket", **settings) as service:
            yield OnSocket(service, path, asyncio.run(create_secret(dsn)), dsn)


def test_the_service_answers_on_both_and_names_its_own_address(on_socket: OnSocket) -> None:
    service, path, *_ = on_socket
    assert f"{service.url} and on {path}" in service.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with (
        on_socket.open() as over_socket,
        httpx.Client(base_url=service.url, auth=(on_socket.key, ""), timeout=30) as http,
    ):
        customer = over_socket.post("/v1/customers", data={"name": "Ada"}).json()["id"]
        assert http.get(f"/v1/customers/{customer}").json()["name"] == "Ada"
        upload: Any = {"data": {"purpose": "dispute_evidence"}, "files": {"file": ("a.png", PNG)}}
        uploaded = over_socket.post("/v1/files", **upload).json()
        link = over_socket.post("/v1/file_links", data={"file": uploaded["id"]}).json()["url"]
        assert link.startswith(f"{service.url}/"), "not where the Host header leads"
        assert httpx.get(link).content == PNG
        assert over_socket.get("/healthz").status_code == 200
        assert over_socket.get("/internal/v1/audit/accesses").status_code == 403  # a key without the scope
        assert over_socket.get("/v1/customers", auth=("sk_test_wrong", "")).status_code == 401
    refused = exchange_bytes(path, b"\x16\x03\x01\x00\x05hello")
    assert refused.startswith(b"HTTP/1.1 400 ")
    assert b"http://" in refused
    assert path.name not in service.log


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001"
    "00e221bc330000000049454e44ae426082"
)


def exchange_bytes(path: Path, sent: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(sent)
        return b"".join(iter(lambda: sock.recv(4096), b""))


def test_a_run_of_logs_tail_over_the_socket_is_shown_requests_to_both_processes(on_socket: OnSocket) -> None:
    form = {"device_name": "a laptop", "websocket_features[]": "request_logs"}
    with on_socket.open() as http:
        session = http.post("/v1/stripecli/sessions", data=form).json()
    assert session["websocket_url"].startswith(on_socket.service.url.replace("http", "ws"))
    received: set[str] = set()
    with unix_connect(
        str(on_socket.path),
        "ws://api.stripe.com/v1/stripecli/socket?websocket_feature=request_logs",
        additional_headers={"Websocket-Id": session["websocket_id"]},
        compression=None,
    ) as socket:
        processes: set[str] = set()
        for _ in range(20):
            asked = {ask(on_socket) for _ in range(8)}
            with contextlib.suppress(TimeoutError):  # a process is told a moment later that somebody looks
                while not asked <= received:
                    frame = json.loads(socket.recv(timeout=1))
                    received.add(json.loads(frame["event_payload"])["request_id"])
                processes |= {request_id[:-8] for request_id in asked}
            if len(processes) == 2:
                break
    assert len(processes) == 2


def ask(on_socket: OnSocket) -> str:
    """The id of a request on a connection of its own to the port, so to either process. Each process's ids
    have a beginning of their own."""
    answer = httpx.get(f"{on_socket.service.url}/v1/charges", auth=(on_socket.key, ""))
    return answer.headers["request-id"]


def test_it_drains_outlives_a_process_and_leaves_no_file(on_socket: OnSocket) -> None:
    service, path, *_ = on_socket
    children = list_children(service.process.pid)
    [one, other] = [pid for pid, name in children.items() if name == "ledger api"]
    os.kill(one, signal.SIGKILL)
    with on_socket.open() as http:
        assert http.get("/v1/customers").status_code == 200
    assert other in list_children(service.process.pid)

    async def stop_under_way() -> int:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(
            base_url="http://api.stripe.com", transport=transport, auth=(on_socket.key, ""), timeout=20
        ) as http:
            async with head_locked(on_socket.dsn):
                request = asyncio.create_task(http.post("/v1/customers"))
                await asyncio.sleep(0.3)
                service.process.send_signal(signal.SIGTERM)
                await wait_until(lambda: not path.exists())
                assert not request.done()
            return (await request).status_code

    assert asyncio.run(stop_under_way()) == 200
    assert service.process.wait(10) == 0


def test_a_leftover_is_replaced_and_nothing_else_is(place: Path) -> None:
    path = place / "a.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))  # the file stays
    with open_unix_listener(path):
        with pytest.raises(SettingError, match=r"LEDGER_UNIX_SOCKET: another process listens on .*a\.sock"):
            open_unix_listener(path).__enter__()
        assert exchange_bytes_with_listener(path)
    assert not path.exists()

    path.write_text("keep me")
    with pytest.raises(SettingError, match="is not a socket"):
        open_unix_listener(path).__enter__()
    assert path.read_text() == "keep me"
    path.unlink()


def exchange_bytes_with_listener(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def test_of_services_that_start_at_once_one_listens(place: Path) -> None:
    path = place / "raced.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    barrier, outcomes = threading.Barrier(4), list[str]()

    def start() -> None:
        barrier.wait()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(open_unix_listener(path))
                outcomes.append("listens")
            except SettingError:
                outcomes.append("refused")
            barrier.wait()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["listens", "refused", "refused", "refused"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 120, "a path has at most"),
        ("missing/a.sock", "No such file or directory"),
        ("", "not a socket"),
    ],
)
def test_a_path_that_cannot_be_used_is_refused(place: Path, name: str, reason: str) -> None:
    line = run_refused(place / "refused", "serve", unix_socket=place / name)
    assert re.search(f"LEDGER_UNIX_SOCKET: .*{reason}", line)
    assert not (place / "refused").exists(), "nothing was begun"

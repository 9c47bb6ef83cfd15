"""Shutdown and supervision: SIGTERM under load, a service of several processes, a process that dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from ledger.accounts import INTERNAL_SCOPES, create_account, create_key, list_accounts
from ledger.postgres.connections import connect
from tests.serving.process import SERVICE_KEY, ServeProcess, build_environment, list_children, run_serve
from tests.store.stores import head_locked, wait_until


async def create_secret(dsn: str) -> str:
    async with await connect(dsn, "ledger_api", name="test") as conn:
        account = await create_account(conn, "Test")
        return (await create_key(conn, account, "sk", livemode=False, name="test"))[1]


def load_customer_ids(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as conn:
        query = b"SELECT originator_id FROM ledger.events WHERE topic = 'customer.created'"
        return {row[0] for row in conn.execute(query)}


def settings(dsn: str) -> dict[str, Any]:
    return {"database_url": dsn, "secret_key": SERVICE_KEY}


def test_requests_under_way_at_sigterm_finish(dsn: str, place: Path) -> None:
    async def main(service: ServeProcess) -> list[str]:
        key = await create_secret(dsn)
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=service.url, auth=(key, ""), limits=limits, timeout=20) as http:
            async with head_locked(dsn):
                requests = [asyncio.create_task(http.post("/v1/customers")) for _ in range(40)]
                await wait_until(lambda: is_appending(dsn))
                await asyncio.sleep(0.3)
                service.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.3)
                assert not any(request.done() for request in requests)
            answers = await asyncio.gather(*requests)
        assert [answer.status_code for answer in answers] == [200] * 40
        return [answer.json()["id"] for answer in answers]

    with run_serve(place / "drain", **settings(dsn)) as service:
        acknowledged = asyncio.run(main(service))
        assert service.process.wait(10) == 0
        assert service.log == ""
    assert set(acknowledged) == load_customer_ids(dsn)


def is_appending(dsn: str) -> bool:
    with psycopg.connect(dsn) as conn:
        query = b"""SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND application_name = 'ledger journal' AND wait_event_type = 'Lock'"""
        row = conn.execute(query).fetchone()
    return row is not None and row[0] > 0


def test_sigterm_under_load_loses_no_acknowledged_change_and_ends_in_time(dsn: str, place: Path) -> None:
    acknowledged: list[str] = []

    async def write(service: ServeProcess, key: str) -> None:
        async with httpx.AsyncClient(base_url=service.url, auth=(key, "")) as http:
            while True:
                try:
                    answer = await http.post("/v1/customers")
                except httpx.TransportError:
                    return
                assert answer.status_code == 200
                acknowledged.append(answer.json()["id"])

    async def main(service: ServeProcess) -> None:
        key = await create_secret(dsn)
        writers = [asyncio.create_task(write(service, key)) for _ in range(10)]
        await wait_until(lambda: len(acknowledged) > 200)
        service.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*writers)

    with run_serve(place / "load", **settings(dsn)) as service:
        asyncio.run(main(service))
        assert service.process.wait(10) == 0
    assert set(acknowledged) <= load_customer_ids(dsn)
    assert len(acknowledged) == len(set(acknowledged))


def test_a_request_whose_body_arrives_after_sigterm_is_answered(dsn: str, place: Path) -> None:
    """The answers of both APIs say that they are the last ones of their connections."""

    async def main(service: ServeProcess) -> list[bytes]:
        key = await create_secret(dsn)
        address = service.url.removeprefix("http://").split(":")
        streams = [await asyncio.open_connection(*address) for _ in range(2)]
        for (_, writer), path in zip(streams, ("/v1/customers", "/internal/v1/keys"), strict=True):
            head = (
                f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 6\r\n\r\n"
            )
            writer.write(head.encode() + b"name")
        await asyncio.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        for _, writer in streams:
            writer.write(b"=x")
        answers = [await reader.read() for reader, _ in streams]
        for _, writer in streams:
            writer.close()
        return answers

    with run_serve(place / "late", **settings(dsn)) as service:
        answers = asyncio.run(main(service))
        assert service.process.wait(10) == 0
    assert [answer.split()[1] for answer in answers] == [b"200", b"403"]
    assert all(b"\r\nconnection: close\r\n" in answer for answer in answers)


def test_requests_that_are_broken_off_at_sigterm_may_be_sent_again(dsn: str, place: Path) -> None:
    """Not 500, under which a client would give up: another process answers it."""

    async def main(service: ServeProcess) -> list[httpx.Response]:
        key = await create_secret(dsn)
        async with await connect(dsn, "ledger_api", name="test") as conn:
            [account] = [row[0] for row in await list_accounts(conn)]
            operator = (
                await create_key(conn, account, "rk", livemode=False, name="operator", scopes=INTERNAL_SCOPES)
            )[1]
        async with httpx.AsyncClient(base_url=service.url, timeout=20) as http, head_locked(dsn):
            requests = [
                asyncio.create_task(http.post("/v1/customers", auth=(key, ""))),
                asyncio.create_task(http.post("/internal/v1/customers", auth=(operator, ""), json={})),
            ]
            await wait_until(lambda: is_appending(dsn))
            await asyncio.sleep(0.3)
            service.process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*requests)

    with run_serve(place / "broken-off", drain_seconds=1, **settings(dsn)) as service:
        answers = asyncio.run(main(service))
        assert service.process.wait(10) == 0
    assert [answer.status_code for answer in answers] == [503, 503]
    assert [answer.headers.get("stripe-should-retry") for answer in answers] == ["true", "true"]


def test_a_request_that_never_ends_does_not_delay_shutdown(dsn: str, place: Path) -> None:
    async def main(service: ServeProcess) -> float:
        _, writer = await asyncio.open_connection(*service.url.removeprefix("http://").split(":"))
        writer.write(b"POST /v1/customers HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nname=")
        await writer.drain()
        await asyncio.sleep(0.2)
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(service.process.wait, 10)
        writer.close()
        return time.monotonic() - started

    with run_serve(place / "hanging", drain_seconds=1, **settings(dsn)) as service:
        assert asyncio.run(main(service)) < 5
        assert service.process.returncode == 0


def is_refused(host: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((host, port)) == errno.ECONNREFUSED


def test_connections_are_refused_while_requests_finish(dsn: str, place: Path) -> None:
    """One that the kernel takes would wait for the end of the service, and get no answer."""
    with run_serve(place / "refusing", workers=2, drain_seconds=6, **settings(dsn)) as service:
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as unfinished:
            unfinished.sendall(b"POST /v1/customers HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nname=")
            time.sleep(0.3)
            service.process.send_signal(signal.SIGTERM)
            service.wait_until(lambda: is_refused(host, int(port)), seconds=4)
            assert service.process.poll() is None


def test_a_sigterm_before_the_first_request_is_obeyed(dsn: str, place: Path) -> None:
    for milliseconds in (0, 10, 30, 60):
        process = subprocess.Popen(
            [sys.executable, "-m", "ledger", "serve"],
            env=build_environment(place / "early", **settings(dsn)),
            cwd=place,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert "listens" in process.stdout.readline()
        time.sleep(milliseconds / 1000)
        process.terminate()
        try:
            assert process.wait(10) in (0, -signal.SIGTERM)
        finally:
            process.kill()


def test_two_api_processes_share_the_work_and_a_killed_one_is_replaced(dsn: str, place: Path) -> None:
    """The database sees which processes append; the metrics count both."""

    def total(service: ServeProcess) -> int:
        text = httpx.get(f"{service.url}/metrics").text
        counted = re.findall(
            r'^ledger_requests_total\{operation="POST /v1/customers",.*\} ([\d.e+]+)$', text, re.M
        )
        return int(sum(map(float, counted)))

    def write(service: ServeProcess, key: str, number: int) -> None:
        """Each request uses a new connection, which the kernel gives to one of the accepting processes."""
        for _ in range(number):
            assert httpx.post(f"{service.url}/v1/customers", auth=(key, "")).status_code == 200

    def api_processes(service: ServeProcess) -> set[int]:
        return {pid for pid, name in list_children(service.process.pid).items() if name == "ledger api"}

    def appenders() -> int:
        with psycopg.connect(dsn) as conn:
            row = conn.execute(b"SELECT count(*) FROM ledger.appenders").fetchone()
            assert row is not None
            return int(row[0])

    key = asyncio.run(create_secret(dsn))
    with run_serve(place / "two", workers=2, **settings(dsn)) as service:
        service.wait_until(lambda: len(api_processes(service)) == 2)
        written = 0
        while appenders() < 2:
            assert written < 400, "one process answers everything"
            write(service, key, 10)
            written += 10
        service.wait_until(lambda: total(service) == written, seconds=2)

        before = api_processes(service)
        os.kill(min(before), signal.SIGKILL)
        write(service, key, 5)
        service.wait_until(lambda: len(api_processes(service)) == 2)
        assert len(before & api_processes(service)) == 1
        service.wait_until(lambda: total(service) == written + 5, seconds=2)
        processes = list_children(service.process.pid)
        service.stop()
    assert len(load_customer_ids(dsn)) == written + 5
    assert not any(map(is_running, processes))


def test_no_process_outlives_a_service_that_is_killed(dsn: str, place: Path) -> None:
    """One that stayed would hold the port, and the service could not start again."""
    with run_serve(place / "orphans", workers=2, **settings(dsn)) as service:
        service.wait_until(lambda: len(list_children(service.process.pid)) == 3)
        processes = list_children(service.process.pid)
        service.kill()
        deadline = time.monotonic() + 60
        while any(is_running(pid) for pid in processes):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with run_serve(place / "orphans", **settings(dsn), port=service.url.rpartition(":")[2]) as again:
            assert again.url == service.url


@pytest.mark.parametrize("name", ["ledger api", "ledger worker"])
def test_a_killed_process_is_replaced_and_requests_wait_for_it(dsn: str, place: Path, name: str) -> None:
    def find(service: ServeProcess) -> int | None:
        names = list_children(service.process.pid)
        return next((pid for pid, child in names.items() if child == name), None)

    key = asyncio.run(create_secret(dsn))
    with run_serve(place / name.replace(" ", "-"), workers=1, **settings(dsn)) as service:
        service.wait_until(lambda: find(service) is not None)
        killed = find(service)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        service.wait_until(lambda: find(service) not in (None, killed))
        with httpx.Client(base_url=service.url, auth=(key, ""), timeout=20) as http:
            made = http.post("/v1/customers").json()["id"]
            service.wait_until(
                lambda: [row["id"] for row in http.get("/v1/customers").json()["data"]] == [made], seconds=10
            )
        assert sorted(list_children(service.process.pid).values()) == ["ledger api", "ledger worker"]


def test_each_api_process_holds_a_listening_socket_and_a_worker_none(dsn: str, place: Path) -> None:
    """A service that is killed can be started again at once, while its worker finishes what it does."""

    def count_listening(pid: int) -> int:
        table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = {f"socket:[{row[9]}]" for row in table if row[3] == "0A"}
        descriptors = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
        return sum(descriptor in listening for descriptor in descriptors)

    with run_serve(place / "sockets", workers=2, **settings(dsn)) as service:
        service.wait_until(lambda: len(list_children(service.process.pid)) == 3)
        found = [(name, count_listening(pid)) for pid, name in list_children(service.process.pid).items()]
        assert sorted(found) == [("ledger api", 1), ("ledger api", 1), ("ledger worker", 0)]


def test_zero_workers_are_one_process_that_does_all(dsn: str, place: Path) -> None:
    key = asyncio.run(create_secret(dsn))
    with run_serve(place / "single", workers=0, **settings(dsn)) as service:
        with httpx.Client(base_url=service.url, auth=(key, ""), timeout=30) as http:
            made = http.post("/v1/customers").json()["id"]
            assert [row["id"] for row in http.get("/v1/customers").json()["data"]] == [made]
        assert list_children(service.process.pid) == {}


def test_a_child_inherits_no_lock_of_its_parent(place: Path) -> None:
    """It would keep the data directory from the next service while it drains."""
    with run_serve(place / "locks", workers=1) as service:
        service.wait_until(lambda: len(list_children(service.process.pid)) == 3)
        for pid, name in list_children(service.process.pid).items():
            descriptors = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
            assert str(place / "locks" / "lock") not in descriptors, name


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False

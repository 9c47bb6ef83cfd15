"""What is said of a connection to NATS that is of no use."""

from __future__ import annotations

import asyncio

import pytest

from ledger.feed.jetstream import stream, window
from ledger.feed.jetstream.connection import NatsUnavailable, close, connect, parse_address
from ledger.feed.jetstream.messages import Message
from tests.jetstream.nats_server import require_program, run_nats_server

PASSWORD = "a-password-of-nats"


def test_a_user_who_may_do_nothing_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stream, window):
        for limit in ("CALL_SECONDS_MAX", "ACKNOWLEDGEMENT_SECONDS_MAX"):
            monkeypatch.setattr(module, limit, 0.3, raising=False)
    users = f"""authorization {{ users: [
        {{ user: nobody, password: {PASSWORD}
           permissions: {{ publish: ["nothing"], subscribe: "_INBOX.>" }} }}
    ] }}"""

    async def call(url: str) -> None:
        client = await connect(parse_address(url), lambda: None)
        message = Message(1, "ledger.x", {}, b"{}")
        opened = window.Window(client)
        await opened.open()
        with pytest.raises(NatsUnavailable, match="may not do this"):
            await stream.Stream(client, "LEDGER").read()
        await opened.send(message)
        with pytest.raises(NatsUnavailable, match=r"position 1 is not acknowledged .* may not do this"):
            await opened.wait_until_empty()
        await close(client)

    with run_nats_server(require_program(), options=users) as server:
        asyncio.run(call(f"nats://nobody:{PASSWORD}@127.0.0.1:{server.port}"))


def test_refused_credentials_are_named_however_the_connection_ends() -> None:
    users = f"authorization {{ user: publisher, password: {PASSWORD} }}"

    async def call(url: str) -> None:
        for _ in range(20):
            with pytest.raises(NatsUnavailable, match="the server refuses the credentials") as refusal:
                await connect(parse_address(url), lambda: None)
            assert "wrong" not in str(refusal.value)

    with run_nats_server(require_program(), options=users) as server:
        asyncio.run(call(f"nats://publisher:wrong@127.0.0.1:{server.port}"))

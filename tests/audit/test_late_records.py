"""A record of an access whose request has ended before it."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from ledger.api.errors import render_error
from ledger.api.internal.audit.accesses import record_accesses
from ledger.api.internal.middleware import InternalApiMiddleware
from ledger.audit.accesses import Access, Accesses
from ledger.errors import AccessNotRecorded
from ledger.postgres.connections import Pool
from ledger.store.durability import Durability
from tests.store.stores import FixedClock

PATH = "/internal/v1/audit/slow"
DSN = "host=127.0.0.1 port=1 dbname=nothing"


def test_a_record_that_fails_after_its_request_has_ended_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for its outcome any more, and asyncio would log that as an error."""

    async def fail_late(accesses: Accesses, access: Access) -> None:
        await asyncio.sleep(0.2)
        raise AccessNotRecorded("no standby has it")

    async def main() -> tuple[httpx.Response, list[dict[str, Any]]]:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        durability = Durability(DSN, "ledger_api")
        accesses = Accesses(Pool(DSN), FixedClock(0), durability, b"k")
        app = FastAPI()

        @app.get(PATH, dependencies=[record_accesses(accesses)])
        async def hang(request: Request) -> None:
            request.state.exchange.key = SimpleNamespace(id="key_1", livemode=False)
            request.state.exchange.on_authorized(True)
            await asyncio.sleep(10)

        api = InternalApiMiddleware(
            app,
            render_error=render_error,
            log_access=lambda exchange: None,
            body_bytes_max=1000,
            durability=durability,
            request_seconds=0.1,
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://ledger") as client:
            answer = await client.get(PATH)
        await asyncio.sleep(0.2)
        gc.collect()
        return answer, faults

    monkeypatch.setattr(Accesses, "record", fail_late)
    answer, faults = asyncio.run(main())
    assert answer.status_code == 503
    assert faults == []

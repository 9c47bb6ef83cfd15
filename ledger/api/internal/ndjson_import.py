"""`POST /internal/v1/import`: NDJSON in, NDJSON out, while the input is still coming.

Results go through a temporary file: a client that sends everything before it reads anything would else
block us while we block it, once the buffers between are full. So memory is constant, and nobody waits.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from ledger.api.internal.callers import Caller, Callers
from ledger.commands.bulk_import import Import
from ledger.commands.execution import Execution
from ledger.domain.money import Terms
from ledger.files.storage import Contents
from ledger.store.journal import Cause

READ_BYTES = 65_536

_BODY = {
    "required": True,
    "content": {
        "application/x-ndjson": {
            "schema": {"type": "string"},
            "example": '{"op": "customer", "id": "cus_1", "name": "Ada"}\n'
            '{"op": "charge", "id": "ch_1", "customer": "cus_1", "amount": 2000, "currency": "usd"}\n'
            '{"op": "dispute", "id": "du_1", "charge": "ch_1", "kind": "chargeback", "reference": "n-1"}\n'
            '{"op": "fact", "dispute": "du_1", "fact": "won", "reference": "n-2"}\n'
            '{"op": "refund", "id": "re_1", "charge": "ch_2", "amount": 500, "created": 1767225600}\n'
            '{"op": "file", "id": "file_1", "purpose": "dispute_evidence", "content": "JVBERi0="}\n'
            '{"op": "event", "id": "evt_1", "type": "invoice.paid", "object": {"id": "in_1"}}\n',
        }
    },
}


def import_routes(
    callers: Callers,
    execution: Execution,
    terms: Terms,
    contents: Contents,
    failure: Callable[[Exception], str],
) -> APIRouter:
    """`failure` gives the error envelope of whatever ends a line."""
    router = APIRouter(tags=["catalogue"])
    importer = callers.scoped("catalog", "network")

    @router.post(
        "/import",
        summary="Tell of many things",
        response_class=Lines,
        openapi_extra={"requestBody": _BODY},
    )
    async def lines(request: Request, caller: Caller = importer) -> Response:
        """One thing a line, ids given; one result a line, in order: `{"line", "id", "changed"}` or
        `{"line", "error"}`. A bad line refuses itself alone. The same input again changes nothing."""
        cause = Cause(caller.account, caller.key.livemode, caller.key.id, caller.request_id, None)
        reach = partial(callers.acting_on, caller)
        importing = Import(execution, terms, cause, contents, reach=reach, failure=failure)
        return Results(importing, request, {"request-id": caller.request_id})

    return router


class Lines(Response):
    """JSON, one document a line."""

    media_type = "application/x-ndjson"


class Results(Lines):
    """The results as they become known, whether or not the client reads them meanwhile."""

    def __init__(self, importing: Import, request: Request, headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._importing = importing
        self._request = request
        self._more = asyncio.Event()
        self._written = 0
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(head)
        with tempfile.TemporaryFile(buffering=0) as file:
            taking = asyncio.create_task(self._take(file.fileno()), name="import results")
            sent = 0
            try:
                while sent < self._written or not self._ended:
                    if sent == self._written:
                        self._more.clear()
                        await self._more.wait()
                        continue
                    body = _read(file.fileno(), sent)
                    sent += len(body)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                await taking
            finally:
                taking.cancel()
                await asyncio.gather(taking, return_exceptions=True)
        await send({"type": "http.response.body", "body": b""})

    async def _take(self, descriptor: int) -> None:
        try:
            async for results in self._importing.results(self._request.stream()):
                told = "".join(f"{result.json()}\n" for result in results)
                self._written += _write(descriptor, told.encode(), self._written)
                self._more.set()
        finally:
            self._ended = True
            self._more.set()


def _read(descriptor: int, offset: int) -> bytes:
    return os.pread(descriptor, READ_BYTES, offset)


def _write(descriptor: int, text: bytes, offset: int) -> int:
    return os.pwrite(descriptor, text, offset)

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
from ledger.store.journal import Cause

CHUNK_BYTES = 65_536

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
    render_error: Callable[[Exception], str],
) -> APIRouter:
    """`render_error` gives the error envelope of whatever ends a line."""
    router = APIRouter(tags=["catalogue"])
    import_caller = callers.require_scopes("catalog", "network")

    @router.post(
        "/import",
        summary="Tell of many things",
        response_class=NdjsonResponse,
        openapi_extra={"requestBody": _BODY},
    )
    async def lines(request: Request, caller: Caller = import_caller) -> Response:
        """One thing a line, ids given; one result a line, in order: `{"line", "id", "changed"}` or
        `{"line", "error"}`. A bad line refuses itself alone. The same input again changes nothing."""
        cause = Cause(caller.account, caller.key.livemode, caller.key.id, caller.request_id, None)
        check_account = partial(callers.switch_account, caller)
        importer = Import(execution, cause, check_account=check_account, render_error=render_error)
        return ImportResponse(importer, request, {"request-id": caller.request_id})

    return router


class NdjsonResponse(Response):
    """JSON, one document a line."""

    media_type = "application/x-ndjson"


class ImportResponse(NdjsonResponse):
    """The results as they become known, whether or not the client reads them meanwhile."""

    def __init__(self, importer: Import, request: Request, headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._importer = importer
        self._request = request
        self._data_ready = asyncio.Event()
        self._written_bytes = 0
        self._complete = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(head)
        with tempfile.TemporaryFile(buffering=0) as file:
            writer = asyncio.create_task(self._write_results(file.fileno()), name="import results")
            sent_bytes = 0
            try:
                while sent_bytes < self._written_bytes or not self._complete:
                    if sent_bytes == self._written_bytes:
                        self._data_ready.clear()
                        await self._data_ready.wait()
                        continue
                    body = _read(file.fileno(), sent_bytes)
                    sent_bytes += len(body)
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                await writer
            finally:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
        await send({"type": "http.response.body", "body": b""})

    async def _write_results(self, descriptor: int) -> None:
        try:
            async for results in self._importer.run(self._request.stream()):
                text = "".join(f"{result.to_json()}\n" for result in results)
                self._written_bytes += _write(descriptor, text.encode(), self._written_bytes)
                self._data_ready.set()
        finally:
            self._complete = True
            self._data_ready.set()


def _read(descriptor: int, offset: int) -> bytes:
    return os.pread(descriptor, CHUNK_BYTES, offset)


def _write(descriptor: int, data: bytes, offset: int) -> int:
    return os.pwrite(descriptor, data, offset)

"""`POST /internal/v1/import`: NDJSON in, NDJSON out, while the input still arrives (internal API §1).

Results pass through a temporary file. A client may send all its input before it reads any result; without the
file, both sides would wait for each other to read, once the buffers between them are full. Memory use is
constant.
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

from ledger.api.exchange import Exchange
from ledger.api.internal.callers import Callers
from ledger.commands.execution import Execution
from ledger.commands.imports.bulk_import import Import

CHUNK_BYTES = 65_536

_BODY = {
    "required": True,
    "content": {
        "application/x-ndjson": {
            "schema": {"type": "string", "format": "binary"},
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
    """The import route. `render_error` returns the error envelope for the error of a line."""
    router = APIRouter(tags=["catalogue"])
    import_scope = callers.require_scopes("catalog", "network")

    @router.post(
        "/import",
        summary="Import many objects",
        response_class=NdjsonResponse,
        openapi_extra={"requestBody": _BODY},
    )
    async def import_objects(request: Request, exchange: Exchange = import_scope) -> Response:
        """One object per line, each with its id; one result per line, in order: `{"line", "id", "changed"}`
        or `{"line", "error"}`, with the `position` of the last event that the line recorded if it recorded
        any. An invalid line fails alone. Repeating the input changes nothing; a known id or reference with
        other content is refused. A byte order mark at the start is skipped."""
        importer = Import(
            execution,
            exchange.build_cause(),
            check_account=partial(callers.check_account, exchange),
            render_error=render_error,
        )
        return ImportResponse(importer, request)

    return router


class NdjsonResponse(Response):
    """JSON, one document per line."""

    media_type = "application/x-ndjson"


class ImportResponse(NdjsonResponse):
    """Sends results as soon as they are known. Reading the input never waits for the client to read them."""

    def __init__(self, importer: Import, request: Request) -> None:
        super().__init__()
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

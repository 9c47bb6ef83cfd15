"""The witness over HTTP: an ASGI application of four routes.

    POST /add-checkpoint                cosign a checkpoint (C2SP tlog-witness)
    GET  /<hash of origin>/checkpoint   the last checkpoint of a log that was cosigned
    GET  /                              keys, logs, sizes and evidence, as JSON
    GET  /metrics                       Prometheus

It needs no web framework, and no key of a caller: a submission is trusted for its signature alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from ledger.tlog.submissions import SIZE_CONTENT_TYPE
from ledger.witness.storage import WitnessStorage, hash_origin
from ledger.witness.witness import Outcome, Witness

BODY_BYTES_MAX = 262_144
BODY_SECONDS_MAX = 10.0
SUBMISSIONS_MAX = 16
"""Submissions in work at the same time; more wait."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The statuses that tlog-witness demands. They are part of that protocol, not of the service's own errors.
_CODES = {
    Outcome.COSIGNED: 200,
    Outcome.MALFORMED: 400,
    Outcome.UNTRUSTED: 403,
    Outcome.UNKNOWN_LOG: 404,
    Outcome.OTHER_SIZE: 409,
    Outcome.INCONSISTENT: 422,
}
_TEXT = "text/plain; charset=utf-8"
log = structlog.get_logger()


class _Response(NamedTuple):
    code: int
    body: bytes
    content_type: str = _TEXT
    ends_connection: bool = False


_NOT_FOUND = _Response(404, b"not found\n")
_NO_SUCH_METHOD = _Response(405, b"method not allowed\n")
_TOO_SLOW = _Response(408, b"the request took too long\n", ends_connection=True)
_TOO_LARGE = _Response(413, b"the request is too large\n", ends_connection=True)
_FAILED = _Response(500, b"the witness cannot write its state\n")


class WitnessApp:
    """Serves one witness."""

    def __init__(self, witness: Witness, storage: WitnessStorage) -> None:
        self._witness = witness
        self._keys = [str(key) for key in storage.verifiers]
        self._origins = {hash_origin(status.origin): status.origin for status in witness.list_logs()}
        self._slots = asyncio.Semaphore(SUBMISSIONS_MAX)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request. The server is run without a lifespan and without WebSockets."""
        assert scope["type"] == "http"
        response = await self._respond(scope["method"], scope["path"], receive)
        headers = [
            (b"content-type", response.content_type.encode()),
            (b"content-length", str(len(response.body)).encode()),
        ]
        if response.ends_connection:  # the rest of the body is not read
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.code, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(self, method: str, path: str, receive: Receive) -> _Response:
        match method, path.split("/"):
            case "POST", ["", "add-checkpoint"]:
                return await self._add_checkpoint(receive)
            case "GET", ["", ""]:
                return await asyncio.to_thread(self._render_status)
            case "GET", ["", "metrics"]:
                return await asyncio.to_thread(self._render_metrics)
            case "GET", ["", log_hash, "checkpoint"] if log_hash in self._origins:
                note = self._witness.get_checkpoint(self._origins[log_hash])
                return _NOT_FOUND if note is None else _Response(200, note.to_text().encode())
            case "GET", ["", "add-checkpoint"]:
                return _NO_SUCH_METHOD
        return _NOT_FOUND

    async def _add_checkpoint(self, receive: Receive) -> _Response:
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                body = await _read_body(receive)
        except TimeoutError:
            return _TOO_SLOW
        if body is None:
            return _TOO_LARGE
        try:
            async with self._slots:
                # In a thread: it waits for the disk. It goes on to its end there if the caller hangs up.
                outcome, text = await asyncio.to_thread(self._witness.add_checkpoint, body)
        except OSError as error:
            log.error("witness_cannot_write", reason=error.strerror)
            return _FAILED
        content_type = SIZE_CONTENT_TYPE if outcome is Outcome.OTHER_SIZE else _TEXT
        return _Response(_CODES[outcome], text.encode(), content_type)

    def _render_status(self) -> _Response:
        document = {
            "keys": self._keys,
            "logs": [
                {
                    "origin": each.origin,
                    "size": each.size,
                    "evidence": {kind.value: count for kind, count in each.evidence.items()},
                }
                for each in self._witness.list_logs()
            ],
        }
        return _Response(200, msgspec.json.encode(document) + b"\n", "application/json")

    def _render_metrics(self) -> _Response:
        registry = CollectorRegistry()
        size = Gauge(
            "ledger_witnessed_size", "Size of a log's last cosigned tree", ("origin",), registry=registry
        )
        evidence = Gauge(
            "ledger_witness_evidence",
            "Checkpoints kept as evidence against a log",
            ("origin", "kind"),
            registry=registry,
        )
        for each in self._witness.list_logs():
            size.labels(each.origin).set(each.size)
            for kind, count in each.evidence.items():
                evidence.labels(each.origin, kind.value).set(count)
        return _Response(200, generate_latest(registry), "text/plain; version=0.0.4")


async def _read_body(receive: Receive) -> bytes | None:
    """The body of a request; None for one of more than BODY_BYTES_MAX bytes. Empty when the caller hangs up:
    a part of a body is no request."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            return None
        if not message.get("more_body", False):
            return bytes(body)

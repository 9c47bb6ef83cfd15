"""The public wire: one request from ASGI messages to an answer, in the contract's order of checks.

Authentication → URL → version → account → parameters and `expand` → the operation. A request that fails
before the operation runs is not stored under its idempotency key, but one whose key was used before is
told so first (CONTRACT 1.5, 1.9). Every answer carries a Request-Id. No framework is in this path: it is
what DESIGN 2 measured to cost as much as the work itself.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from ledger.accounts import ApiKey, KeyRing
from ledger.api.authentication import (
    acted_on,
    authenticate,
    out_of_scope,
    permit,
    permit_expanded,
    publishable_key,
)
from ledger.api.public.cors import EVERY_ANSWER, REQUEST_METHOD, preflight
from ledger.api.public.downloads import headers_of
from ledger.api.public.multipart import MULTIPART, Uploads
from ledger.api.public.operations import Operation, Routes
from ledger.api.rate_limits import Limits
from ledger.call import Call
from ledger.commands.execution import Answered, Execution, fingerprint_of
from ledger.domain.file import File
from ledger.errors import InvalidParameter, Refused, UnknownRoute
from ledger.files.storage import Contents, Upload
from ledger.ids import base62
from ledger.store.journal import Cause
from ledger.wire.expansion import parse_expand
from ledger.wire.forms import decode
from ledger.wire.versions import LATEST, VERSIONS

IDEMPOTENCY_KEY_LENGTH_MAX = 255
_ACCOUNT_HEADERS = (b"stripe-account", b"stripe-context")
FORM = b"application/x-www-form-urlencoded"
OK = 200

Headers = list[tuple[bytes, bytes]]
Failure = Callable[[Exception], tuple[int, str, Headers]]
Observe = Callable[["Exchange"], None]


class BodyTooLarge(Refused):
    """A body over the limit."""


class Exchange:
    """One request on its way: what is known of it so far, for the answer, the metrics and the log."""

    __slots__ = ("account", "base_url", "headers", "key", "method", "name", "parts", "path", "position",
                 "request_id", "started", "status")  # fmt: skip

    def __init__(self, method: str, path: str, request_id: str) -> None:
        self.base_url = ""
        self.parts: dict[str, Upload] = {}
        self.method = method
        self.path = path
        self.request_id = request_id
        self.started = time.perf_counter()
        self.headers: Headers = [*EVERY_ANSWER, (b"request-id", request_id.encode())]
        self.name = "none"  # method and path of the operation, for the metrics
        self.key: ApiKey | None = None
        self.account: str | None = None
        self.position: int | None = None
        self.status = 0


class Wire:
    """An ASGI application for everything under /v1."""

    def __init__(
        self,
        routes: Routes,
        keys: KeyRing,
        execution: Execution,
        *,
        tick: Callable[[], Awaitable[float]],
        failure: Failure,
        observe: Observe,
        limits: Limits,
        contents: Contents,
        uploads: Uploads,
        public_url: str | None,
        body_bytes_max: int,
    ) -> None:
        self._routes = routes
        self._keys = keys
        self._execution = execution
        self._tick = tick
        self._failure = failure
        self._observe = observe
        self._limits = limits
        self._contents = contents
        self._uploads = uploads
        self._public_url = public_url
        self._body_bytes_max = body_bytes_max
        self._request_ids = _request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope["method"], scope["path"], next(self._request_ids))
        try:
            now = await self._tick()
            status, body = await self._answer(exchange, scope, receive, now)
        except Exception as error:
            status, body, headers = self._failure(error)
            exchange.headers += headers
        exchange.status = status
        if isinstance(body, File):
            await self._send_file(exchange, body, send)
            return
        payload = body.encode()
        exchange.headers.append((b"content-length", str(len(payload)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": exchange.headers})
        await send({"type": "http.response.body", "body": payload})
        self._observe(exchange)

    async def _send_file(self, exchange: Exchange, file: File, send: Send) -> None:
        told = {name.encode(): value.encode() for name, value in headers_of(file).items()}
        headers = [*(header for header in exchange.headers if header[0] not in told), *told.items()]
        await send({"type": "http.response.start", "status": exchange.status, "headers": headers})
        async for chunk in self._contents.read(file):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self._observe(exchange)

    async def _answer(
        self, exchange: Exchange, scope: Scope, receive: Receive, now: float
    ) -> tuple[int, str | File]:
        given = dict(scope["headers"])
        query: bytes = scope["query_string"]
        if exchange.method == "OPTIONS" and REQUEST_METHOD in given:
            exchange.headers += preflight(given)
            return 200, ""
        authorization = given.get(b"authorization", b"")
        if not authorization and self._routes.takes_key_in_query(exchange.method, exchange.path):
            authorization = publishable_key(query)
        exchange.key = key = await authenticate(self._keys, authorization, now)
        version = given.get(b"stripe-version")
        if version is None:
            version = key.api_version.encode()
        if version in _VERSIONS:  # told in every authenticated answer, so before what may be refused
            exchange.headers.append((b"stripe-version", version))
        try:
            operation, target = self._routes.find(exchange.method, exchange.path)
        except UnknownRoute:
            if key.kind == "ek":  # what it may do is all there is for it
                raise out_of_scope(key) from None
            raise
        exchange.name = f"{operation.method} {operation.path}"
        if key.kind != "sk" or operation.open_to == "pk":
            permit(key, operation, target)
        if operation.open_to == "pk":
            exchange.headers.append((b"cache-control", b"no-store"))  # the answer holds a key
        if version not in _VERSIONS:
            shown = version.decode("latin-1")[:80]
            raise InvalidParameter(f"Invalid Stripe API version: {shown}")
        account = key.account
        if _ACCOUNT_HEADERS[0] in given or _ACCOUNT_HEADERS[1] in given:
            account = await self._act_on(key, given, exchange.headers)
        exchange.account = account
        self._limits.check(key.id, account)
        exchange.base_url = self._public_url or _base_url(scope, given)
        if operation.decide is None:
            if b"content-length" in given or b"transfer-encoding" in given:  # else it has no body
                query = _joined(query, await self._form(given, receive))
            return await self._read(exchange, operation, key, account, target, query)
        if operation.takes_file and given.get(b"content-type", b"").lower().startswith(MULTIPART):
            return await self._upload(exchange, operation, key, account, query, given, receive)
        raw = _joined(query, await self._form(given, receive))
        return await self._command(exchange, operation, key, account, target, raw, given)

    async def _act_on(self, key: ApiKey, given: Mapping[bytes, bytes], headers: Headers) -> str:
        """The account that a header names, which is told back."""
        named = {name: given[name].decode("latin-1") for name in _ACCOUNT_HEADERS if name in given}
        account = await acted_on(self._keys, key, *(named.get(name) for name in _ACCOUNT_HEADERS))
        headers += ((name, account.encode()) for name in named)
        return account

    async def _read(
        self, exchange: Exchange, operation: Operation, key: ApiKey, account: str, target: str, query: bytes
    ) -> tuple[int, str | File]:
        call = _call(operation, key, account, exchange, None, target, query)
        if operation.download is not None:
            return OK, await operation.download(call)
        assert operation.answer is not None
        found = await operation.answer(call)
        if found.behind:
            exchange.headers.append((b"ledger-behind-events", str(found.behind).encode()))
        if found.incomplete:
            exchange.headers.append((b"ledger-incomplete", b"true"))
        return self._execution.encode(found.body)

    async def _command(
        self,
        exchange: Exchange,
        operation: Operation,
        key: ApiKey,
        account: str,
        target: str,
        raw: bytes,
        given: Mapping[bytes, bytes],
    ) -> tuple[int, str]:
        decide = operation.decide
        assert decide is not None
        idempotency_key = None
        if operation.method == "POST":  # on DELETE the header is ignored (CONTRACT 1.9)
            idempotency_key = _idempotency_key(given.get(b"idempotency-key"), exchange.headers)
        cause = Cause(account, key.livemode, key.id, exchange.request_id, idempotency_key)
        try:
            call = _call(operation, key, account, exchange, idempotency_key, target, raw)
        except InvalidParameter:
            if idempotency_key is not None and (replied := await self._execution.replied(cause)) is not None:
                # What was stored had valid parameters, so these are others.
                await self._execution.replay(replied, idempotency_key, fingerprint="")
            raise
        fingerprint = ""
        if idempotency_key is not None:
            seen = {name: (part.digest, part.filename) for name, part in exchange.parts.items()}
            parameters = call.parameters | {"expand": call.expand} | seen
            fingerprint = fingerprint_of(exchange.method, exchange.path, parameters)
        answered = await self._execution.run(cause, call, decide, fingerprint=fingerprint)
        if idempotency_key is not None:
            _tell_of_replay(answered, exchange)
        exchange.position = answered.position
        return answered.status, answered.body

    async def _upload(
        self,
        exchange: Exchange,
        operation: Operation,
        key: ApiKey,
        account: str,
        query: bytes,
        given: Mapping[bytes, bytes],
        receive: Receive,
    ) -> tuple[int, str]:
        """A command with a file, stored before it is decided and forgotten unless a file came of it.

        After a failure of ours nobody knows whether one did: what is stored then stays, for the sweep.
        """
        incoming = self._uploads.begin()
        try:
            fields, exchange.parts = await self._uploads.receive(given, receive, incoming)
            raw = _joined(query, fields)
            status, body = await self._command(exchange, operation, key, account, "", raw, given)
        except Refused:
            await incoming.drop()
            raise
        if status != OK or exchange.position is None:  # refused, or an earlier answer again
            await incoming.drop()
        return status, body

    async def _form(self, given: Mapping[bytes, bytes], receive: Receive) -> bytes:
        body = await bounded_body(given, receive, self._body_bytes_max)
        if body and not given.get(b"content-type", FORM).lower().startswith(FORM):
            raise InvalidParameter(
                "Invalid request (check that your POST content type is application/x-www-form-urlencoded). "
                "If you have questions, see https://docs.stripe.com/api."
            )
        return body


async def bounded_body(given: Mapping[bytes, bytes], receive: Receive, bytes_max: int) -> bytes:
    """The request's body. Raises BodyTooLarge as soon as it is known to be, unread where it was announced,
    and InvalidParameter for one that is cut off."""
    length = given.get(b"content-length", b"0")
    if length.isdigit() and int(length) > bytes_max:
        raise BodyTooLarge(f"The request body is larger than {bytes_max} bytes.")
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise BodyTooLarge(f"The request body is larger than {bytes_max} bytes.")
    if message["type"] == "http.disconnect":
        raise InvalidParameter("The connection closed before the request was complete.")
    return body


def _joined(query: bytes, body: bytes) -> bytes:
    return b"&".join((query, body)) if query and body else query or body


_VERSIONS = frozenset(version.encode() for version in VERSIONS)
assert LATEST.encode() in _VERSIONS


def _request_ids() -> Iterator[str]:
    """req_, a random start for the process, and a count; unique without asking anyone."""
    start = base62(secrets.randbits(128))[-14:]
    return (f"req_{start}{number:08d}" for number in itertools.count(1))


def _base_url(scope: Scope, given: Mapping[bytes, bytes]) -> str:
    """The address that the caller used, which may be a proxy's: the Host it asked for."""
    return f"{scope['scheme']}://{given.get(b'host', b'').decode('latin-1')}"


def _call(
    operation: Operation,
    key: ApiKey,
    account: str,
    exchange: Exchange,
    idempotency_key: str | None,
    target: str,
    raw: bytes,
) -> Call:
    parameters = operation.table.parse({**decode(raw, only=operation.table.only), **exchange.parts})
    paths: Any = parameters.pop("expand", None)
    expand = parse_expand(paths, operation.expandable, in_list=operation.is_list) if paths else {}
    permit_expanded(key, operation, expand)
    return Call(
        account,
        key.livemode,
        key.id,
        exchange.request_id,
        idempotency_key,
        target,
        parameters,
        expand,
        as_platform=account != key.account,
        base_url=exchange.base_url,
    )


def _idempotency_key(given: bytes | None, headers: Headers) -> str | None:
    if not given:
        return None
    if len(given) > IDEMPOTENCY_KEY_LENGTH_MAX:
        raise InvalidParameter(f"Idempotency keys must be at most {IDEMPOTENCY_KEY_LENGTH_MAX} characters.")
    headers.append((b"idempotency-key", given))
    return given.decode("latin-1")


def _tell_of_replay(answered: Answered, exchange: Exchange) -> None:
    first = answered.replay_of or exchange.request_id
    exchange.headers.append((b"original-request", first.encode()))
    if answered.replay_of is not None:
        exchange.headers.append((b"idempotent-replayed", b"true"))
        if answered.status >= 500:
            exchange.headers.append((b"stripe-should-retry", b"false"))

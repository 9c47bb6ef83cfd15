"""The public wire: one request from ASGI messages to an answer, in the contract's order of checks.

Authentication → URL → version → account → parameters and `expand` → the operation. A request that fails
before the operation runs is not stored under its idempotency key, but one whose key was used before is
told so first (contract §1.5, §1.9). Every answer carries a Request-Id. No framework is in this path: it was
measured to cost as much as the work itself.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from ledger.accounts import ApiKey, KeyCache
from ledger.api.authentication import (
    authenticate,
    authorization_from_query,
    check_expand_permissions,
    check_permission,
    ephemeral_key_error,
    resolve_account,
)
from ledger.api.public.cors import DEFAULT_HEADERS, REQUEST_METHOD_HEADER, preflight_headers
from ledger.api.public.downloads import build_file_headers
from ledger.api.public.multipart import MULTIPART_CONTENT_TYPE, UploadReceiver
from ledger.api.public.operations import Operation, RouteTable
from ledger.api.rate_limits import RateLimits
from ledger.call import Call
from ledger.commands.execution import CommandResult, Execution, fingerprint_of
from ledger.domain.file import File
from ledger.errors import InvalidParameter, RequestError, UnknownRoute
from ledger.files.storage import FileStorage, Upload
from ledger.ids import encode_base62
from ledger.queries.context import QueryContext
from ledger.store.journal import Cause
from ledger.wire.expansion import parse_expand
from ledger.wire.forms import decode
from ledger.wire.versions import LATEST_VERSION, VERSIONS

IDEMPOTENCY_KEY_LENGTH_MAX = 255
_ACCOUNT_HEADERS = (b"stripe-account", b"stripe-context")
FORM_CONTENT_TYPE = b"application/x-www-form-urlencoded"
STATUS_OK = 200

Headers = list[tuple[bytes, bytes]]
RenderError = Callable[[Exception], tuple[int, str, Headers]]
LogAccess = Callable[["Exchange"], None]


class BodyTooLarge(RequestError):
    """A body over the limit."""


class Exchange:
    """One request on its way: what is known of it so far, for the answer, the metrics and the log."""

    __slots__ = (
        "account", "base_url", "key", "method", "operation_name", "path", "position", "request_id",
        "response_headers", "started_at", "status", "uploads",
    )  # fmt: skip

    def __init__(self, method: str, path: str, request_id: str) -> None:
        self.base_url = ""
        self.uploads: dict[str, Upload] = {}
        self.method = method
        self.path = path
        self.request_id = request_id
        self.started_at = time.perf_counter()
        self.response_headers: Headers = [*DEFAULT_HEADERS, (b"request-id", request_id.encode())]
        self.operation_name = "none"  # method and path of the operation, for the metrics
        self.key: ApiKey | None = None
        self.account: str | None = None
        self.position: int | None = None
        self.status = 0


class PublicApi:
    """An ASGI application for everything under /v1."""

    def __init__(
        self,
        routes: RouteTable,
        keys: KeyCache,
        execution: Execution,
        queries: QueryContext,
        *,
        refresh_clock: Callable[[], Awaitable[float]],
        render_error: RenderError,
        log_access: LogAccess,
        rate_limits: RateLimits,
        contents: FileStorage,
        upload_receiver: UploadReceiver,
        public_url: str | None,
        body_bytes_max: int,
    ) -> None:
        self._routes = routes
        self._keys = keys
        self._execution = execution
        self._queries = queries
        self._refresh_clock = refresh_clock
        self._render_error = render_error
        self._log_access = log_access
        self._rate_limits = rate_limits
        self._contents = contents
        self._upload_receiver = upload_receiver
        self._public_url = public_url
        self._body_bytes_max = body_bytes_max
        self._request_ids = _generate_request_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope["method"], scope["path"], next(self._request_ids))
        try:
            now = await self._refresh_clock()
            status, body = await self._handle(exchange, scope, receive, now)
        except Exception as error:
            status, body, headers = self._render_error(error)
            exchange.response_headers += headers
        exchange.status = status
        if isinstance(body, File):
            await self._send_file(exchange, body, send)
            return
        payload = body.encode()
        exchange.response_headers.append((b"content-length", str(len(payload)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": exchange.response_headers})
        await send({"type": "http.response.body", "body": payload})
        self._log_access(exchange)

    async def _send_file(self, exchange: Exchange, file: File, send: Send) -> None:
        file_headers = {name.encode(): value.encode() for name, value in build_file_headers(file).items()}
        headers = [
            *(header for header in exchange.response_headers if header[0] not in file_headers),
            *file_headers.items(),
        ]
        await send({"type": "http.response.start", "status": exchange.status, "headers": headers})
        async for chunk in self._contents.read(file):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self._log_access(exchange)

    async def _handle(
        self, exchange: Exchange, scope: Scope, receive: Receive, now: float
    ) -> tuple[int, str | File]:
        request_headers = dict(scope["headers"])
        query: bytes = scope["query_string"]
        if exchange.method == "OPTIONS" and REQUEST_METHOD_HEADER in request_headers:
            exchange.response_headers += preflight_headers(request_headers)
            return 200, ""
        authorization = request_headers.get(b"authorization", b"")
        if not authorization and self._routes.accepts_key_in_query(exchange.method, exchange.path):
            authorization = authorization_from_query(query)
        exchange.key = key = await authenticate(self._keys, authorization, now)
        version = request_headers.get(b"stripe-version")
        if version is None:
            version = key.api_version.encode()
        if version in _VERSIONS:  # told in every authenticated answer, so before what may be refused
            exchange.response_headers.append((b"stripe-version", version))
        try:
            operation, target = self._routes.find(exchange.method, exchange.path)
        except UnknownRoute:
            if key.kind == "ek":  # what it may do is all there is for it
                raise ephemeral_key_error(key) from None
            raise
        exchange.operation_name = f"{operation.method} {operation.path}"
        if key.kind != "sk" or operation.open_to == "pk":
            check_permission(key, operation, target)
        if operation.open_to == "pk":
            exchange.response_headers.append((b"cache-control", b"no-store"))  # the answer holds a key
        if version not in _VERSIONS:
            printable_version = version.decode("latin-1")[:80]
            raise InvalidParameter(f"Invalid Stripe API version: {printable_version}")
        account = key.account
        if _ACCOUNT_HEADERS[0] in request_headers or _ACCOUNT_HEADERS[1] in request_headers:
            account = await self._resolve_account(key, request_headers, exchange.response_headers)
        exchange.account = account
        self._rate_limits.check(key.id, account)
        exchange.base_url = self._public_url or _base_url(scope, request_headers)
        if operation.decide is None:
            if (
                b"content-length" in request_headers or b"transfer-encoding" in request_headers
            ):  # else it has no body
                query = _join_parameters(query, await self._read_form(request_headers, receive))
            return await self._run_read(exchange, operation, key, account, target, query)
        if operation.takes_file and request_headers.get(b"content-type", b"").lower().startswith(
            MULTIPART_CONTENT_TYPE
        ):
            return await self._run_upload(exchange, operation, key, account, query, request_headers, receive)
        encoded_parameters = _join_parameters(query, await self._read_form(request_headers, receive))
        return await self._run_command(
            exchange, operation, key, account, target, encoded_parameters, request_headers
        )

    async def _resolve_account(
        self, key: ApiKey, request_headers: Mapping[bytes, bytes], response_headers: Headers
    ) -> str:
        """The account that a header names, which is told back."""
        account_headers = {
            name: request_headers[name].decode("latin-1")
            for name in _ACCOUNT_HEADERS
            if name in request_headers
        }
        account = await resolve_account(
            self._keys, key, *(account_headers.get(name) for name in _ACCOUNT_HEADERS)
        )
        response_headers += ((name, account.encode()) for name in account_headers)
        return account

    async def _run_read(
        self, exchange: Exchange, operation: Operation, key: ApiKey, account: str, target: str, query: bytes
    ) -> tuple[int, str | File]:
        call = _build_call(operation, key, account, exchange, None, target, query)
        if operation.download is not None:
            return STATUS_OK, await operation.download(call, self._queries)
        assert operation.read is not None
        result = await operation.read(call, self._queries)
        if result.lag_events:
            exchange.response_headers.append((b"ledger-behind-events", str(result.lag_events).encode()))
        if result.incomplete:
            exchange.response_headers.append((b"ledger-incomplete", b"true"))
        return self._execution.encode(result.body)

    async def _run_command(
        self,
        exchange: Exchange,
        operation: Operation,
        key: ApiKey,
        account: str,
        target: str,
        encoded_parameters: bytes,
        request_headers: Mapping[bytes, bytes],
    ) -> tuple[int, str]:
        decide = operation.decide
        assert decide is not None
        idempotency_key = None
        if operation.method == "POST":  # on DELETE the header is ignored (contract §1.9)
            idempotency_key = _read_idempotency_key(
                request_headers.get(b"idempotency-key"), exchange.response_headers
            )
        cause = Cause(account, key.livemode, key.id, exchange.request_id, idempotency_key)
        try:
            call = _build_call(operation, key, account, exchange, idempotency_key, target, encoded_parameters)
        except InvalidParameter:
            if (
                idempotency_key is not None
                and (stored_reply := await self._execution.find_reply(cause)) is not None
            ):
                # What was stored had valid parameters, so these are others.
                await self._execution.replay(stored_reply, idempotency_key, fingerprint="")
            raise
        fingerprint = ""
        if idempotency_key is not None:
            upload_digests = {
                name: (upload.digest, upload.filename) for name, upload in exchange.uploads.items()
            }
            parameters = call.parameters | {"expand": call.expand} | upload_digests
            fingerprint = fingerprint_of(exchange.method, exchange.path, parameters)
        result = await self._execution.run(cause, call, decide, fingerprint=fingerprint)
        if idempotency_key is not None:
            _add_replay_headers(result, exchange)
        exchange.position = result.position
        return result.status, result.body

    async def _run_upload(
        self,
        exchange: Exchange,
        operation: Operation,
        key: ApiKey,
        account: str,
        query: bytes,
        request_headers: Mapping[bytes, bytes],
        receive: Receive,
    ) -> tuple[int, str]:
        """A command with a file, stored before it is decided and forgotten unless a file came of it.

        After a failure of ours nobody knows whether one did: what is stored then stays, for the sweep.
        """
        incoming = self._upload_receiver.start_upload()
        try:
            fields, exchange.uploads = await self._upload_receiver.receive(request_headers, receive, incoming)
            encoded_parameters = _join_parameters(query, fields)
            status, body = await self._run_command(
                exchange, operation, key, account, "", encoded_parameters, request_headers
            )
        except RequestError:
            await incoming.discard()
            raise
        if status != STATUS_OK or exchange.position is None:  # refused, or an earlier answer again
            await incoming.discard()
        return status, body

    async def _read_form(self, request_headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        body = await read_bounded_body(request_headers, receive, self._body_bytes_max)
        if body and not request_headers.get(b"content-type", FORM_CONTENT_TYPE).lower().startswith(
            FORM_CONTENT_TYPE
        ):
            raise InvalidParameter(
                "Invalid request (check that your POST content type is application/x-www-form-urlencoded). "
                "If you have questions, see https://docs.stripe.com/api."
            )
        return body


async def read_bounded_body(
    request_headers: Mapping[bytes, bytes], receive: Receive, bytes_max: int
) -> bytes:
    """The request's body. Raises BodyTooLarge as soon as it is known to be, unread where it was announced,
    and InvalidParameter for one that is cut off."""
    length = request_headers.get(b"content-length", b"0")
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


def _join_parameters(query: bytes, body: bytes) -> bytes:
    return b"&".join((query, body)) if query and body else query or body


_VERSIONS = frozenset(version.encode() for version in VERSIONS)
assert LATEST_VERSION.encode() in _VERSIONS


def _generate_request_ids() -> Iterator[str]:
    """req_, a random start for the process, and a count; unique without asking anyone."""
    start = encode_base62(secrets.randbits(128))[-14:]
    return (f"req_{start}{number:08d}" for number in itertools.count(1))


def _base_url(scope: Scope, request_headers: Mapping[bytes, bytes]) -> str:
    """The address that the caller used, which may be a proxy's: the Host it asked for."""
    return f"{scope['scheme']}://{request_headers.get(b'host', b'').decode('latin-1')}"


def _build_call(
    operation: Operation,
    key: ApiKey,
    account: str,
    exchange: Exchange,
    idempotency_key: str | None,
    target: str,
    encoded_parameters: bytes,
) -> Call:
    parameters = operation.table.parse(
        {**decode(encoded_parameters, only_names=operation.table.only_names), **exchange.uploads}
    )
    paths: Any = parameters.pop("expand", None)
    expand = parse_expand(paths, operation.expandable, in_list=operation.is_list) if paths else {}
    check_expand_permissions(key, operation, expand)
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


def _read_idempotency_key(header: bytes | None, response_headers: Headers) -> str | None:
    if not header:
        return None
    if len(header) > IDEMPOTENCY_KEY_LENGTH_MAX:
        raise InvalidParameter(f"Idempotency keys must be at most {IDEMPOTENCY_KEY_LENGTH_MAX} characters.")
    response_headers.append((b"idempotency-key", header))
    return header.decode("latin-1")


def _add_replay_headers(result: CommandResult, exchange: Exchange) -> None:
    original_request_id = result.original_request_id or exchange.request_id
    exchange.response_headers.append((b"original-request", original_request_id.encode()))
    if result.original_request_id is not None:
        exchange.response_headers.append((b"idempotent-replayed", b"true"))
        if result.status >= 500:
            exchange.response_headers.append((b"stripe-should-retry", b"false"))

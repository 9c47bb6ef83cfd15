"""The public API's protocol: one request from its head to a response, in the contract's order of checks.

Authentication → URL → version → account → parameters and `expand` → the operation. A request that fails
before its operation runs leaves no reply under its idempotency key; but if its parameters are invalid and the
key was used before, it gets the error for a reused key (contract §1.5, §1.9). Every response has a
Request-Id. No framework is on this path: in a measurement, it cost as much as the work itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from starlette.types import Receive, Scope, Send

from ledger.api.authentication import (
    account_access_error,
    authenticate,
    authorization_from_query,
    check_expand_permissions,
    check_permission,
    ephemeral_key_error,
    resolve_account,
)
from ledger.api.clock import RefreshClock
from ledger.api.console.cookie import read_authorization
from ledger.api.errors import STATUS_OK, STATUS_REFUSED_MIN, Answers, Headers, RenderError, indent
from ledger.api.exchange import (
    JSON_CONTENT_TYPE,
    AsgiSource,
    Exchange,
    HeaderBlock,
    LogAccess,
    Source,
    generate_request_ids,
)
from ledger.api.key_cache import KeyCache
from ledger.api.public.cors import CORS_HEADERS, REQUEST_METHOD_HEADER, preflight_headers
from ledger.api.public.dialect import Dialect, join_forms
from ledger.api.public.downloads import build_file_headers
from ledger.api.public.multipart import MULTIPART_CONTENT_TYPE, UploadReceiver
from ledger.api.public.operations import RouteTable
from ledger.api.rate_limits import RateLimits
from ledger.api.unknown_routes.hints import preview_route_error
from ledger.call import Call
from ledger.commands.execution import Execution, fingerprint_of
from ledger.domain.file import File
from ledger.errors import InvalidParameter, RequestError, UnknownRoute
from ledger.files.storage import FileStorage
from ledger.queries.context import QueryContext
from ledger.queries.shared_reads import SharedReads
from ledger.time_limits import RequestLimit
from ledger.wire.expansion import ExpandTree, parse_expand
from ledger.wire.versions import PREVIEW_SUFFIX, VERSIONS, is_version

_JSON_HEADERS = HeaderBlock.of(JSON_CONTENT_TYPE, *CORS_HEADERS)
_DOWNLOAD_HEADERS = HeaderBlock.of(*CORS_HEADERS)
_ENCODED_VERSIONS = frozenset(version.encode() for version in VERSIONS)
_ACCOUNT_HEADER = b"stripe-account"
_CONTEXT_HEADER = b"stripe-context"


class _ReadAnswer(NamedTuple):
    """The answer to a query, and its own response headers."""

    status: int
    body: str
    headers: Headers


class PublicApi:
    """Answers everything under /v1, or under /v2: for a `RequestCycle`, and as an ASGI application."""

    def __init__(
        self,
        routes: RouteTable,
        dialect: Dialect,
        keys: KeyCache,
        execution: Execution,
        queries: QueryContext,
        *,
        answers: Answers,
        refresh_clock: RefreshClock,
        render_error: RenderError,
        log_access: LogAccess,
        rate_limits: RateLimits,
        storage: FileStorage,
        upload_receiver: UploadReceiver,
        public_url: str | None,
        body_bytes_max: int,
        request_seconds: float,
    ) -> None:
        self._routes = routes
        self._dialect = dialect
        self._keys = keys
        self._execution = execution.with_encode(answers.stable)
        self._preview_execution = execution.with_encode(answers.preview)
        self._queries = queries
        self._refresh_clock = refresh_clock
        self._render_error = render_error
        self.log_access = log_access
        self._rate_limits = rate_limits
        self._storage = storage
        self._upload_receiver = upload_receiver
        self._public_url = public_url
        self._body_bytes_max = body_bytes_max
        self._request_seconds = request_seconds
        self._request_ids = generate_request_ids()
        self._shared_reads: SharedReads[tuple[str | bytes | bool, ...], _ReadAnswer] = SharedReads()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of an ASGI server."""
        client = scope.get("client")
        source = AsgiSource(scope["scheme"], receive, client[0] if client else None)
        headers = dict(scope["headers"])
        exchange = self.begin(scope["method"], scope["path"], scope["query_string"], headers, source)
        body = await self.answer(exchange)
        if isinstance(body, bytes):
            await exchange.send_response(send, body)
        else:
            start = {"status": exchange.status, "headers": exchange.collect_headers()}
            await send({"type": "http.response.start", **start})
            async for chunk in body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        self.log_access(exchange)

    def begin(
        self, method: str, path: str, query: bytes, headers: Mapping[bytes, bytes], source: Source
    ) -> Exchange:
        """The exchange of a request that has arrived."""
        exchange = Exchange(method, path, query, headers, source, next(self._request_ids))
        exchange.default_headers = _JSON_HEADERS
        return exchange

    async def answer(self, exchange: Exchange) -> bytes | AsyncIterator[bytes]:
        """The body of the response, in chunks if it is a file, whose length the headers state. Status and
        headers are set in the exchange. The caller sends them, and then calls `log_access`.

        It is there within the request's limit, not counting the time that the client takes to send its body.
        """
        try:
            async with RequestLimit(self._request_seconds):
                now = await self._refresh_clock()
                exchange.status, body = await self._handle(exchange, now)
                if isinstance(body, File):
                    contents = await self._storage.read(body)
                    _set_file_headers(exchange, body)
                    return contents
        except Exception as error:
            exchange.status, body, headers = self._render_error(error)
            exchange.response_headers += headers
        if exchange.status >= STATUS_REFUSED_MIN:
            exchange.error_body = body
        user_agent = exchange.request_headers.get(b"user-agent", b"")
        return (indent(body) if _is_read_by_people(user_agent) else body).encode()

    async def _handle(self, exchange: Exchange, now: float) -> tuple[int, str | File]:
        """Status and body of the response. An error of the request is raised."""
        headers = exchange.request_headers
        if exchange.method == "OPTIONS" and REQUEST_METHOD_HEADER in headers:
            exchange.response_headers += preflight_headers(headers)
            return STATUS_OK, ""
        await self._authorize(exchange, now)
        operation = exchange.operation
        if operation.act is not None:
            call = self._build_call(exchange, await self._read_parameters(exchange))
            # The Stripe CLI connects where it asks now: perhaps a tunnel, which LEDGER_PUBLIC_URL is not.
            call = call.replace(base_url=exchange.base_url)
            durability = self._queries.store.durability
            failovers = durability.failovers
            answer = await operation.act(call, self._queries)
            await durability.confirm(failovers)
            return self._choose_execution(exchange).encode(answer)
        if not operation.writes:
            return await self._run_read(exchange)
        if operation.takes_file and headers.get(b"content-type", b"").lower().startswith(
            MULTIPART_CONTENT_TYPE
        ):
            return await self._run_upload(exchange)
        return await self._run_command(exchange, await self._read_parameters(exchange))

    async def _authorize(self, exchange: Exchange, now: float) -> None:
        """Find key, operation, target and account of the request, and check that the key allows them."""
        headers = exchange.request_headers
        authorization = read_authorization(headers)
        if not authorization and self._routes.accepts_key_in_query(exchange.method, exchange.path):
            authorization = authorization_from_query(exchange.query)
        key = self._keys.get_cached(authorization)
        if key is None or key.is_expired(now):
            key = await authenticate(self._keys, authorization, now)
        exchange.set_key(key)
        version = headers.get(b"stripe-version")
        if version is None:
            version = key.api_version.encode()
        version_is_known = version in _ENCODED_VERSIONS
        if not version_is_known:
            exchange.is_preview = version_is_known = is_version(version.decode("latin-1"))
        if version_is_known:  # every authenticated response has it, even an error raised below
            exchange.response_headers.append((b"stripe-version", version))
        try:
            operation, target, exchange.part = self._routes.find(exchange.method, exchange.path)
        except UnknownRoute:
            if key.kind == "ek":  # it can access so little that every other URL is forbidden
                raise ephemeral_key_error(key) from None
            raise
        exchange.operation = operation
        exchange.target = target
        exchange.operation_name = operation.name
        if key.kind != "sk" or operation.open_to == "pk":
            check_permission(key, operation, target)
        if operation.open_to == "pk":
            exchange.response_headers.append((b"cache-control", b"no-store"))  # the answer contains a key
        if not version_is_known:
            raise InvalidParameter(f"Invalid Stripe API version: {version.decode('latin-1')[:80]}")
        if operation.is_preview and not version.endswith(PREVIEW_SUFFIX.encode()):
            raise preview_route_error(exchange.method, exchange.path)
        if _ACCOUNT_HEADER in headers or _CONTEXT_HEADER in headers:
            await self._resolve_account(exchange)
        if operation.targets_account and not await self._keys.can_access(key, target):
            raise account_access_error(key, target)
        self._rate_limits.check(key.id, exchange.account)

    async def _resolve_account(self, exchange: Exchange) -> None:
        """Act on the account that a header names; the response repeats the header."""
        named = {
            name: exchange.request_headers[name].decode("latin-1")
            for name in (_ACCOUNT_HEADER, _CONTEXT_HEADER)
            if name in exchange.request_headers
        }
        account = await resolve_account(
            self._keys, exchange.key, named.get(_ACCOUNT_HEADER), named.get(_CONTEXT_HEADER)
        )
        exchange.account = account
        exchange.response_headers += ((name, account.encode()) for name in named)

    async def _run_read(self, exchange: Exchange) -> tuple[int, str | File]:
        headers = exchange.request_headers
        encoded_parameters: bytes = exchange.query
        if b"content-length" in headers or b"transfer-encoding" in headers:  # otherwise there is no body
            encoded_parameters = await self._read_parameters(exchange)
        operation = exchange.operation
        if operation.download is not None:
            call = self._build_call(exchange, encoded_parameters)
            return STATUS_OK, await operation.download(call, self._queries)
        # Nothing else of a request decides what it reads. The key's id stands for its permissions; whether it
        # is a reaction decides which parameters it may have.
        key = (
            exchange.key.id, exchange.account, exchange.path, encoded_parameters, self._base_url(exchange),
            exchange.reaction_to is not None, exchange.is_preview,
        )  # fmt: skip
        answer = await self._shared_reads.run(key, lambda: self._read(exchange, encoded_parameters))
        exchange.response_headers += answer.headers
        return answer.status, answer.body

    async def _read(self, exchange: Exchange, encoded_parameters: bytes) -> _ReadAnswer:
        """The answer to a query, for all requests that share it."""
        read = exchange.operation.read
        assert read is not None
        result = await read(self._build_call(exchange, encoded_parameters), self._queries)
        headers: Headers = []
        if result.lag_events:
            headers.append((b"ledger-behind-events", str(result.lag_events).encode()))
        if result.incomplete:
            headers.append((b"ledger-incomplete", b"true"))
        return _ReadAnswer(*self._choose_execution(exchange).encode(result.body), headers)

    async def _run_command(self, exchange: Exchange, encoded_parameters: bytes) -> tuple[int, str]:
        operation, execution = exchange.operation, self._choose_execution(exchange)
        is_keyed = operation.method in self._dialect.keyed_methods
        idempotency_key = exchange.read_idempotency_key() if is_keyed else None
        try:
            call = self._build_call(exchange, encoded_parameters)
        except InvalidParameter:
            if idempotency_key is not None:
                cause = exchange.build_cause()
                stored_reply = await execution.find_reply(cause)
                if stored_reply is not None:
                    # The parameters of the stored reply were valid, so these differ: `replay` raises.
                    await execution.replay(stored_reply, cause, fingerprint="")
            raise
        fingerprint = ""
        if idempotency_key is not None:
            parameters = {**call.parameters, "expand": call.expand}
            for name, upload in exchange.uploads.items():
                parameters[name] = (upload.digest, upload.filename)
            fingerprint = fingerprint_of(exchange.method, exchange.path, parameters)
        if operation.change is not None:
            change, subject = await operation.change(call, self._queries)
            result = await execution.change_once(
                self._queries.pool, call.cause, change, fingerprint=fingerprint, subject=subject
            )
        else:
            assert operation.decide is not None
            result = await execution.run(call, operation.decide, fingerprint=fingerprint)
        exchange.set_result(result)
        return result.status, result.body

    async def _run_upload(self, exchange: Exchange) -> tuple[int, str]:
        """A command with a file. The file is stored before the command is decided, and discarded unless the
        command creates a file object.

        After a failure of the service it is unknown whether the command did: the contents then remain, and
        the next start deletes them if no file object exists.
        """
        incoming = self._upload_receiver.start_upload()
        try:
            fields, exchange.uploads = await self._upload_receiver.receive(exchange, incoming)
            encoded_parameters = join_forms(exchange.query, fields)
            status, body = await self._run_command(exchange, encoded_parameters)
        except RequestError:
            await incoming.discard()
            raise
        if status != STATUS_OK or exchange.position is None:  # refused, or replayed
            await incoming.discard()
        return status, body

    async def _read_parameters(self, exchange: Exchange) -> bytes:
        """The parameters of query and body, encoded."""
        body = exchange.source.take_body(self._body_bytes_max)  # most have arrived with their head
        if body is None:
            body = await exchange.read_body(self._body_bytes_max)
        return self._dialect.join(exchange, body)

    def _build_call(self, exchange: Exchange, encoded_parameters: bytes) -> Call:
        operation = exchange.operation
        parameters = self._dialect.parse(exchange, encoded_parameters)
        paths: Any = parameters.pop("expand", None)
        expand: ExpandTree = {}
        if paths:
            expand = parse_expand(paths, operation.expandable, in_list=operation.is_list)
            check_expand_permissions(exchange.key, operation, expand)
        return Call(
            exchange.build_cause(),
            exchange.target,
            parameters,
            expand,
            part=exchange.part,
            as_platform=exchange.as_platform,
            base_url=self._base_url(exchange),
        )

    def _choose_execution(self, exchange: Exchange) -> Execution:
        """The execution that answers in the version of the request."""
        return self._preview_execution if exchange.is_preview else self._execution

    def _base_url(self, exchange: Exchange) -> str:
        return self._public_url or exchange.base_url


def _set_file_headers(exchange: Exchange, file: File) -> None:
    """Put the headers of a file's bytes in place of those of JSON."""
    file_headers = {name.encode(): value.encode() for name, value in build_file_headers(file).items()}
    exchange.default_headers = _DOWNLOAD_HEADERS
    exchange.response_headers = [
        *(header for header in exchange.response_headers if header[0] not in file_headers),
        *file_headers.items(),
    ]


def _is_read_by_people(user_agent: bytes) -> bool:
    """Whether the client is curl, or Stripe's command line (`Stripe/v1 stripe-cli/1.52.0`): both print the
    body as it comes."""
    return user_agent.startswith(b"curl/") or b" stripe-cli/" in user_agent

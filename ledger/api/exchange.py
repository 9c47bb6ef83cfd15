"""One HTTP request to either API, from its arrival to its line in the access log.

The public protocol and the internal API's middleware both create an `Exchange` for each request: it has a
request id, reads the body within a limit, collects the response headers, and goes to the access log.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from starlette.types import Message, Receive, Send

from ledger.accounts import ApiKey
from ledger.api.errors import FAULT_STATUS_MIN, BodyTooLarge, Headers
from ledger.call import Cause
from ledger.commands.execution import CommandResult
from ledger.errors import InvalidParameter
from ledger.files.storage import Upload
from ledger.ids import encode_base62
from ledger.time_limits import pause_request_limit

if TYPE_CHECKING:
    from ledger.api.public.operations import Operation

BASE_URLS_CACHED_MAX = 16
IDEMPOTENCY_KEY_LENGTH_MAX = 255
POSITION_HEADER = b"ledger-position"
TRIGGER_HEADER = b"stripe-request-trigger"
CONNECTION_EXTENSION = "ledger.connection"
"""The extension of ASGI that is the `StreamConnection` of the request."""
JSON_CONTENT_TYPE = (b"content-type", b"application/json")

_match_trigger = re.compile(rb"event=(evt_[A-Za-z0-9_.~-]{1,251})").fullmatch


class StreamConnection(Protocol):
    """What an answer without end asks of its connection."""

    def abort(self) -> None:
        """End it at once, whatever is still to be sent."""

    def push(self, piece: bytes) -> bool:
        """Send the next piece of the answer, past ASGI. Returns whether it is sent: not while something else
        waits to be sent, or once the connection is closed."""


class Source(Protocol):
    """Where a request comes from: the connection, or an ASGI server."""

    @property
    def scheme(self) -> str:
        """`http` or `https`."""

    @property
    def client(self) -> str | None:
        """The address of whoever is connected; None over a Unix socket."""

    def take_body(self, bytes_max: int) -> bytes | None:
        """The body, if all of it has arrived and has at most `bytes_max`; else None, and `receive_chunk` gets
        it."""

    async def receive_chunk(self) -> tuple[bytes, bool]:
        """The next part of the body, and whether there are more. Raises InvalidParameter if the connection
        was closed."""


class AsgiSource(NamedTuple):
    """A request from an ASGI server."""

    scheme: str
    receive: Receive
    client: str | None = None

    def take_body(self, bytes_max: int) -> bytes | None:
        """As for any source: what has arrived is not known."""
        return None

    async def receive_chunk(self) -> tuple[bytes, bool]:
        """As for any source."""
        with pause_request_limit():
            message: Message = await self.receive()
        if message["type"] == "http.disconnect":
            raise InvalidParameter("The connection closed before the request was complete.")
        return message.get("body", b""), message.get("more_body", False)


class HeaderBlock(NamedTuple):
    """Headers that many responses have: in pairs, and encoded once."""

    pairs: Headers
    encoded: bytes

    @classmethod
    def of(cls, *pairs: tuple[bytes, bytes]) -> Self:
        """The block of these headers."""
        return cls([*pairs], b"".join(b"%b: %b\r\n" % pair for pair in pairs))


JSON_HEADERS = HeaderBlock.of(JSON_CONTENT_TYPE)


class Exchange:
    """A request and what is known so far of its response.

    `key`, `account`, `operation`, `target` and `part` are set in this order, as the request passes the
    checks; reading one before it is set is a bug (AttributeError). `account` is the account that the request
    acts on: the key's own until another one is resolved.

    on_authorized  of the internal API: called once it is known whether the key allows the request
    before_answer  of the internal API: awaited with the status before the answer leaves. If it raises a
                   LedgerError, the caller gets that instead of the answer
    """

    key: ApiKey
    operation: Operation
    target: str
    part: str

    # What most requests leave as it is stands in the class: an exchange sets only its own.
    default_headers: HeaderBlock = JSON_HEADERS
    operation_name = "none"  # method and path of the operation, for the metrics
    key_id: str | None = None
    account = ""
    is_preview = False  # whether it names a preview version of the API
    idempotency_key: str | None = None
    uploads: Mapping[str, Upload] = MappingProxyType({})
    position: int | None = None  # of the last event that the request appended
    is_durable = False  # whether what the answer says is known to be, on the standbys too
    status = 0
    error_body: str | None = None
    is_stream = False  # whether the answer may last: its time is then that until it begins
    answered_at: float | None = None  # when it began, as `started_at`
    on_authorized: Callable[[bool], None] | None = None
    before_answer: Callable[[int], Awaitable[None]] | None = None

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: Mapping[bytes, bytes],
        source: Source,
        request_id: str,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.request_headers = headers
        self.source = source
        self.request_id = request_id
        self.started_at = time.perf_counter()
        self.response_headers: Headers = [(b"request-id", request_id.encode())]

    def set_key(self, key: ApiKey) -> None:
        """Set the request's key. The request acts on the key's own account until another one is resolved."""
        self.key = key
        self.key_id = key.id
        self.account = key.account

    def build_cause(self) -> Cause:
        """The cause that the log records with the request's events. Needs the key and the account."""
        key = self.key
        return Cause(
            self.account, key.livemode, key.id, self.request_id, self.idempotency_key, self.reaction_to
        )

    @property
    def reaction_to(self) -> str | None:
        """The Event to which the caller reacts with the request: the SDKs name it when they fetch a thin
        event or its object. Any other content of the header means nothing (contract §10.1)."""
        header = self.request_headers.get(TRIGGER_HEADER)
        found = None if header is None else _match_trigger(header)
        return None if found is None else found[1].decode()

    @property
    def as_platform(self) -> bool:
        """Whether the key's account acts on an account connected to it."""
        return self.account != self.key.account

    @property
    def base_url(self) -> str:
        """The service's URL as the caller knows it, which may be a proxy's: that of the Host header."""
        return _format_base_url(self.source.scheme, self.request_headers.get(b"host", b""))

    def read_idempotency_key(self) -> str | None:
        """The request's Idempotency-Key, None if it has none; the response will repeat it.

        Raises InvalidParameter for one that is too long.
        """
        header = self.request_headers.get(b"idempotency-key")
        if not header:
            return None
        if len(header) > IDEMPOTENCY_KEY_LENGTH_MAX:
            raise InvalidParameter(
                f"Idempotency keys must be at most {IDEMPOTENCY_KEY_LENGTH_MAX} characters."
            )
        self.response_headers.append((b"idempotency-key", header))
        self.idempotency_key = header.decode("latin-1")
        return self.idempotency_key

    def set_result(self, result: CommandResult) -> None:
        """Set the command's result: its position goes into the response headers. With an Idempotency-Key,
        they also name the request that got this response first (contract §1.9)."""
        self.is_durable = True
        if result.position is not None:
            self.response_headers.append((POSITION_HEADER, str(result.position).encode()))
            if result.original_request_id is None:
                self.position = result.position
        if self.idempotency_key is None:
            return
        original_request_id = result.original_request_id or self.request_id
        self.response_headers.append((b"original-request", original_request_id.encode()))
        if result.original_request_id is not None:
            self.response_headers.append((b"idempotent-replayed", b"true"))
            if result.status >= FAULT_STATUS_MIN:
                self.response_headers.append((b"stripe-should-retry", b"false"))

    @property
    def content_length(self) -> int:
        """The length that the request states for its body, in bytes; 0 if it states none."""
        length = self.request_headers.get(b"content-length", b"0")
        return int(length) if length.isdigit() else 0

    async def read_body(self, bytes_max: int) -> bytes:
        """The whole body.

        Raises BodyTooLarge as soon as the body is known to be too large (without reading any of it when its
        stated length is), InvalidParameter for one that is cut off.
        """
        if self.content_length > bytes_max:
            raise BodyTooLarge(f"The request body is larger than {bytes_max} bytes.")
        body, more = await self.source.receive_chunk()
        while more:
            chunk, more = await self.source.receive_chunk()
            body += chunk
            if len(body) > bytes_max:
                raise BodyTooLarge(f"The request body is larger than {bytes_max} bytes.")
        return body

    def collect_headers(self) -> Headers:
        """All headers of the response so far."""
        return [*self.default_headers.pairs, *self.response_headers]

    async def send_response(self, send: Send, body: bytes) -> None:
        """Send the response to an ASGI server: `status`, the collected headers and `body`."""
        headers = [*self.collect_headers(), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=BASE_URLS_CACHED_MAX)
def _format_base_url(scheme: str, host: bytes) -> str:
    return f"{scheme}://{host.decode('latin-1')}"


LogAccess = Callable[[Exchange], None]
"""Counts a request in the metrics and logs it, after its response."""


def generate_request_ids() -> Iterator[str]:
    """Request ids: `req_`, digits drawn at random for the process, and a count. Unique among
    processes that do not know of each other."""
    start = encode_base62(secrets.randbits(128))[-14:]
    return (f"req_{start}{number:08d}" for number in itertools.count(1))

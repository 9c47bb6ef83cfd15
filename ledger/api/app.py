"""The composition root of an API process, and the only module that knows status codes.

`create_app(...)` wires a store, the commands and the reads into one ASGI application: the wire protocol
under /v1 (answered before FastAPI's routing), the internal API, /docs, /healthz, /readyz, /metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple, Protocol

import psycopg
import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from ledger import __version__
from ledger.accounts import KeyRing
from ledger.api.access_log import observer
from ledger.api.envelope import encode, encode_refusal
from ledger.api.internal.callers import Callers
from ledger.api.internal.customer_sessions import session_routes
from ledger.api.internal.external_facts import catalogue_routes
from ledger.api.internal.keys import key_routes
from ledger.api.internal.middleware import InternalCalls
from ledger.api.internal.ndjson_import import import_routes
from ledger.api.internal.resources import resource_routes
from ledger.api.internal.router import internal_routes
from ledger.api.public.downloads import link_routes
from ledger.api.public.file_routes import file_operations
from ledger.api.public.file_urls import FileUrls
from ledger.api.public.multipart import Uploads
from ledger.api.public.openapi import describe
from ledger.api.public.operations import Routes
from ledger.api.public.protocol import BodyTooLarge, Headers, Wire
from ledger.api.public.routes import operations
from ledger.api.public.webhook_routes import webhook_operations
from ledger.api.rate_limits import Limits
from ledger.clock import Clock
from ledger.commands.customer_sessions import EphemeralKeys, Secrets
from ledger.commands.execution import Execution, Fault, Reveal
from ledger.commands.models import no_json, refused
from ledger.commands.resources import Publications
from ledger.config import Settings
from ledger.deadlines import overdue_seconds
from ledger.domain.file_link import FileLink
from ledger.domain.money import Terms
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import (
    CardRefused,
    Contended,
    FactForbidden,
    Forbidden,
    KeyReused,
    LedgerError,
    OperationRefused,
    Overloaded,
    RateLimited,
    Refused,
    ShownOnce,
    Unauthenticated,
    Unavailable,
    UnknownObject,
    UnknownRoute,
)
from ledger.files.storage import Contents
from ledger.files.urls import Addresses
from ledger.ids import new_id
from ledger.metrics import Lag, Metrics, Owed, lags
from ledger.postgres.connections import Link, first_line, open_pool
from ledger.queries import webhook_endpoints
from ledger.queries.balance_transactions import Balances
from ledger.queries.customer_sessions import SessionAudit
from ledger.queries.files import FileReads
from ledger.queries.pages import Pages
from ledger.queries.payments import Reads
from ledger.store.codec import State
from ledger.store.store import Store
from ledger.webhooks.deliveries import owed

STUCK_SECONDS = 30.0
REPLIES_KEPT_SECONDS = 25 * 3600
FORGET_PAUSE_SECONDS = 3600

log = structlog.get_logger()

_STATUS: Sequence[tuple[type[Refused], int, str]] = (
    (UnknownObject, 404, "invalid_request_error"),
    (UnknownRoute, 404, "invalid_request_error"),
    (CardRefused, 402, "card_error"),
    (Unauthenticated, 401, "invalid_request_error"),
    (Forbidden, 403, "invalid_request_error"),
    (FactForbidden, 409, "invalid_request_error"),
    (OperationRefused, 409, "invalid_request_error"),
    (KeyReused, 400, "idempotency_error"),
    (ShownOnce, 409, "idempotency_error"),
    (RateLimited, 429, "invalid_request_error"),
    (BodyTooLarge, 413, "invalid_request_error"),
    (Fault, 500, "api_error"),
    (Refused, 400, "invalid_request_error"),
)
_RETRY: Headers = [(b"stripe-should-retry", b"true")]


class Follower(Protocol):
    """Something that follows the log beside the API in one process: projections, deadlines."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...


Follow = Callable[[Store], Follower]
AddRoutes = Callable[[Callers, Store], APIRouter]


class Above(NamedTuple):
    """What lives above this package and runs with it: what follows the log, and internal routes."""

    followers: Sequence[Follow] = ()
    routes: Sequence[AddRoutes] = ()


ALONE = Above()


class LedgerApp(FastAPI):
    """FastAPI, with the wire protocol in front of its routing, and what all internal calls have around it."""

    wire: Wire
    internal: InternalCalls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] + "/").startswith("/v1/"):
            await self.wire(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith("/internal/v1/"):
            await self.internal(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings, dsn: str, secret_key: bytes, *, above: Above = ALONE) -> LedgerApp:
    """The application of one process; it works once its lifespan has started."""
    clock = Clock(movable=settings.test_clock)
    store = Store(dsn, secret_key, settings, clock)
    pool = open_pool(dsn)
    secrets = Secrets(secret_key)
    keys = KeyRing(dsn, EphemeralKeys(secrets, store.streams).find)
    metrics = Metrics()
    store.journal.observe = lambda commands, refused, seconds: metrics.appended(
        commands, refused, seconds, store.journal.waiting
    )
    terms = terms_of(settings)
    addresses = Addresses(secret_key)
    file_urls = FileUrls(addresses)
    endpoint_secrets = webhook_endpoints.Secrets(secret_key)

    def reveal(state: State) -> str:
        if isinstance(state, WebhookEndpoint):
            return endpoint_secrets.secret_of(state.id)
        return addresses.digits(state.id) if isinstance(state, FileLink) else secrets.of(state)

    execution = execution_of(store, settings, reveal)
    pages = Pages(pool, clock, wait_ms=settings.list_wait_ms)
    table = operations(Reads(store, pages), Balances(store, pool, pages), secrets, file_urls, terms)
    contents = Contents(pool, secret_key)
    file_reads = FileReads(store, pages, addresses)
    table += file_operations(file_reads, file_urls)
    table += webhook_operations(webhook_endpoints.EndpointReads(store, pages), endpoint_secrets, terms)
    limits = Limits(
        key_per_second=settings.key_requests_per_second,
        account_per_second=settings.account_requests_per_second,
    )
    timing = Link(dsn, "ledger_api", name="clock") if settings.test_clock else None

    async def tick() -> float:
        if timing is not None:
            try:
                async with timing as conn:
                    await clock.refresh(conn)
            except psycopg.OperationalError as error:
                raise Unavailable(first_line(error)) from error
        return clock.now()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await pool.open()
            stack.push_async_callback(pool.close)
            await contents.sweep()
            keys.start()
            stack.push_async_callback(keys.close)
            if timing is not None:
                stack.push_async_callback(timing.drop)
            store.start()
            stack.push_async_callback(store.close)
            forgetting = asyncio.create_task(_forget_replies(store), name="forget replies")
            stack.callback(forgetting.cancel)
            for follow in above.followers:
                follower = follow(store)
                await follower.start()
                stack.push_async_callback(follower.close)
            yield

    app = LedgerApp(
        title="Ledger",
        version=__version__,
        description="Customer sessions, disputes and events over Stripe's wire protocol.",
        lifespan=lifespan,
    )
    observe = observer(metrics, settings)
    app.internal = InternalCalls(
        super(LedgerApp, app).__call__,
        failure=_failure,
        observe=observe,
        body_bytes_max=settings.body_bytes_max,
    )
    app.wire = Wire(
        Routes(table),
        keys,
        execution,
        tick=tick,
        failure=_failure,
        observe=observe,
        limits=limits,
        contents=contents,
        uploads=Uploads(
            contents, clock, file_bytes_max=settings.file_bytes_max, fields_bytes_max=settings.body_bytes_max
        ),
        public_url=settings.public_url,
        body_bytes_max=settings.body_bytes_max,
    )
    describe(app, table)
    callers = Callers(keys, tick, limits)
    parts = (
        catalogue_routes(callers, execution, terms),
        key_routes(callers, keys, pool, execution, clock),
        import_routes(callers, execution, terms, contents, envelope_of),
        resource_routes(callers, execution, Publications(pool, store.codec)),
        session_routes(callers, execution, SessionAudit(store, pool)),
        *(add(callers, store) for add in above.routes),
    )
    app.include_router(internal_routes(settings, callers, clock, pool, parts))
    app.include_router(link_routes(file_reads, contents, tick))
    _add_health(app, pool, clock, metrics, terms)
    app.add_exception_handler(LedgerError, _internal_failure)
    app.add_exception_handler(psycopg.OperationalError, _unavailable)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(Exception, _internal_failure)
    app.add_exception_handler(RequestValidationError, _invalid_field)
    return app


def execution_of(store: Store, settings: Settings, reveal: Reveal) -> Execution:
    """What runs commands, and answers them as the wire does."""
    return Execution(store, encode=_answer, reveal=reveal, attempts_max=settings.decide_attempts_max)


async def _forget_replies(store: Store) -> None:
    """Every hour, drop the replies of idempotency keys whose day is over (CONTRACT 1.9)."""
    while True:
        try:
            await store.journal.forget_replies(store.clock.now() - REPLIES_KEPT_SECONDS)
        except psycopg.Error as error:
            log.warning("replies are not forgotten now", reason=type(error).__name__)
        await asyncio.sleep(FORGET_PAUSE_SECONDS)


def terms_of(settings: Settings) -> Terms:
    """What the deployment has set for money, deadlines and limits."""
    return Terms(
        fee_credited_on_win=settings.dispute_fee_credited,
        due_days=settings.dispute_due_days,
        session_seconds=settings.session_seconds,
        webhook_endpoints_max=settings.webhook_endpoints_max,
    )


def _answer(answer: Mapping[str, Any] | Refused) -> tuple[int, str]:
    if not isinstance(answer, Refused):
        return 200, encode(answer)
    for kind, status, name in _STATUS:
        if isinstance(answer, kind):
            return status, encode_refusal(answer, name)
    raise AssertionError("every refusal is a Refused")


def _failure(error: Exception) -> tuple[int, str, Headers]:
    """What is answered when a request ends in an error. Internals are not told."""
    refusal: Refused
    match error:
        case Refused():
            return *_answer(error), []
        case Overloaded():
            refusal = RateLimited(
                "Request rate limit exceeded. The service is taking as much as it can; retry shortly.",
                code="rate_limit",
            )
            return *_answer(refusal), _RETRY
        case Contended():
            refusal = RateLimited(
                "This object cannot be accessed right now because another API request or Stripe process is "
                "currently accessing it. If you see this error intermittently, retry the request.",
                code="lock_timeout",
            )
            return *_answer(refusal), _RETRY
        case Unavailable():
            log.warning("unavailable", reason=str(error))
            refusal = Fault("The ledger cannot take this request right now. Please retry.")
            return *_answer(refusal), _RETRY
    log.error("fault", exc_info=error)
    return *_answer(Fault("An unexpected error occurred.")), []


def envelope_of(error: Exception) -> str:
    """The error envelope alone, for a line among others."""
    return _failure(error)[1]


async def _internal_failure(request: Request, error: Exception) -> Response:
    status, body, headers = _failure(error)
    told = {name.decode(): value.decode() for name, value in headers}
    if not hasattr(request.state, "exchange"):  # outside the two APIs; they number their requests
        told["request-id"] = new_id("req", time.time())
    return Response(body, status, told, "application/json")


async def _unavailable(request: Request, error: Exception) -> Response:
    return await _internal_failure(request, Unavailable(first_line(error)))


async def _unrouted(request: Request, error: Exception) -> Response:
    """FastAPI raises by number for what it cannot route, and for a body that is no JSON text at all."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return await _internal_failure(request, no_json())
    refusal = UnknownRoute(f"Unrecognized request URL ({request.method}: {request.url.path}).")
    return await _internal_failure(request, refusal)


async def _invalid_field(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _internal_failure(request, refused(error.errors()[0], outer=1))


def _add_health(
    app: FastAPI,
    pool: AsyncConnectionPool[AsyncConnection[TupleRow]],
    clock: Clock,
    metrics: Metrics,
    terms: Terms,
) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/readyz", tags=["health"])
    async def readyz(response: Response) -> dict[str, Any]:
        """The database answers and no live projection is stuck; 503 otherwise."""
        try:
            async with pool.connection(timeout=2) as conn:
                standing = await lags(conn, clock.now())
        except psycopg.Error as error:
            response.status_code = 503
            return {"status": "unavailable", "database": type(error).__name__}
        stuck = [lag.projection for lag in standing if lag.live and lag.seconds > STUCK_SECONDS]
        incomplete = [lag.projection for lag in standing if lag.live and lag.parked]
        if stuck or not standing:
            response.status_code = 503
        return {
            "status": "stuck" if stuck else "starting" if not standing else "ok",
            "stuck": stuck,
            "incomplete": incomplete,
            "projections": [lag._asdict() for lag in standing],
        }

    @app.get("/metrics", tags=["health"])
    async def exposition() -> Response:
        """Prometheus metrics; without those that stand in the database while it does not answer."""
        standing: list[Lag] = []
        overdue: dict[str, float] = {}
        owing: Owed | None = None
        with suppress(psycopg.OperationalError):
            async with pool.connection(timeout=2) as conn:
                standing = await lags(conn, clock.now())
                overdue = await overdue_seconds(conn, terms, clock.now())
                owing = await owed(conn, clock.now())
        return Response(metrics.exposition(standing, overdue, owing), media_type="text/plain; version=0.0.4")

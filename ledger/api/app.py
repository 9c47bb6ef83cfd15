"""The composition root of an API process, and the only module that knows status codes.

`create_app(...)` wires a store, the commands and the reads into one ASGI application: the wire protocol
under /v1 (answered before FastAPI's routing), the internal API, /docs, /healthz, /readyz, /metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

import psycopg
import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from ledger import __version__
from ledger.accounts import KeyCache
from ledger.api.access_log import access_log
from ledger.api.envelope import encode_object, encode_refusal
from ledger.api.internal.callers import Callers
from ledger.api.internal.customer_sessions import customer_session_routes
from ledger.api.internal.external_facts import external_fact_routes
from ledger.api.internal.keys import key_routes
from ledger.api.internal.middleware import InternalApiMiddleware
from ledger.api.internal.ndjson_import import import_routes
from ledger.api.internal.resources import resource_routes
from ledger.api.internal.router import internal_routes
from ledger.api.public.downloads import file_link_routes
from ledger.api.public.multipart import UploadReceiver
from ledger.api.public.openapi import extend_openapi
from ledger.api.public.operations import RouteTable
from ledger.api.public.protocol import BodyTooLarge, Headers, PublicApi
from ledger.api.public.routes import OPERATIONS
from ledger.api.rate_limits import RateLimits
from ledger.clock import Clock
from ledger.commands.context import CommandEnvironment
from ledger.commands.execution import Execution, InternalError
from ledger.commands.models import invalid_json_error, validation_error
from ledger.commands.resources import Publications
from ledger.commands.session_secrets import EphemeralKeys, SessionSecrets
from ledger.config import Settings
from ledger.deadlines import read_overdue_seconds
from ledger.domain.money import Terms
from ledger.errors import (
    CardError,
    ConcurrencyConflict,
    Forbidden,
    IdempotencyKeyReused,
    InvalidDisputeState,
    InvalidProjectionState,
    LedgerError,
    QueueFull,
    RateLimited,
    RequestError,
    SecretAlreadyIssued,
    Unauthenticated,
    Unavailable,
    UnknownObject,
    UnknownRoute,
)
from ledger.files.storage import FileStorage
from ledger.files.urls import FileLinkUrls
from ledger.ids import new_id
from ledger.metrics import Lag, Metrics, WebhookBacklog, read_lags
from ledger.postgres.connections import Pool, ReconnectingConnection, first_line, open_pool
from ledger.queries.charges import find_charge_id
from ledger.queries.context import QueryContext
from ledger.queries.pages import Pages
from ledger.store.store import Store
from ledger.webhooks.deliveries import read_backlog
from ledger.webhooks.secrets import WebhookSecrets

READY_LAG_SECONDS_MAX = 30.0
REPLY_RETENTION_SECONDS = 25 * 3600
REPLY_CLEANUP_INTERVAL_SECONDS = 3600

log = structlog.get_logger()

_STATUS_CODES: Sequence[tuple[type[RequestError], int, str]] = (
    (UnknownObject, 404, "invalid_request_error"),
    (UnknownRoute, 404, "invalid_request_error"),
    (CardError, 402, "card_error"),
    (Unauthenticated, 401, "invalid_request_error"),
    (Forbidden, 403, "invalid_request_error"),
    (InvalidDisputeState, 409, "invalid_request_error"),
    (InvalidProjectionState, 409, "invalid_request_error"),
    (IdempotencyKeyReused, 400, "idempotency_error"),
    (SecretAlreadyIssued, 409, "idempotency_error"),
    (RateLimited, 429, "invalid_request_error"),
    (BodyTooLarge, 413, "invalid_request_error"),
    (InternalError, 500, "api_error"),
    (RequestError, 400, "invalid_request_error"),
)
_RETRY_HEADERS: Headers = [(b"stripe-should-retry", b"true")]


class Follower(Protocol):
    """Something that follows the log beside the API in one process: projections, deadlines."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...


FollowerFactory = Callable[[Store], Follower]
RouterFactory = Callable[[Callers, Store], APIRouter]


class Extensions(NamedTuple):
    """What lives above this package and runs with it: what follows the log, and internal routes."""

    follower_factories: Sequence[FollowerFactory] = ()
    router_factories: Sequence[RouterFactory] = ()


NO_EXTENSIONS = Extensions()


class LedgerApp(FastAPI):
    """FastAPI, with the wire protocol in front of its routing, and what all internal calls have around it."""

    public_api: PublicApi
    internal_api: InternalApiMiddleware

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] + "/").startswith("/v1/"):
            await self.public_api(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith("/internal/v1/"):
            await self.internal_api(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    settings: Settings, dsn: str, secret_key: bytes, *, extensions: Extensions = NO_EXTENSIONS
) -> LedgerApp:
    """The application of one process; it works once its lifespan has started."""
    clock = Clock(movable=settings.test_clock)
    store = Store(dsn, secret_key, settings, clock)
    pool = open_pool(dsn)
    queries = build_queries(store, pool, settings)
    execution = build_execution(store, queries, settings)
    terms, contents = execution.environment.terms, execution.environment.storage
    keys = KeyCache(dsn, EphemeralKeys(execution.environment.session_secrets, store.streams).find)
    metrics = Metrics()
    store.journal.on_append = lambda commands, refused, seconds: metrics.observe_append(
        commands, refused, seconds, store.journal.queue_length
    )
    rate_limits = RateLimits(
        key_per_second=settings.key_requests_per_second,
        account_per_second=settings.account_requests_per_second,
    )
    clock_connection = (
        ReconnectingConnection(dsn, "ledger_api", name="clock") if settings.test_clock else None
    )

    async def refresh_clock() -> float:
        if clock_connection is not None:
            try:
                async with clock_connection as conn:
                    await clock.refresh(conn)
            except psycopg.OperationalError as error:
                raise Unavailable(first_line(error)) from error
        return clock.now()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await pool.open()
            stack.push_async_callback(pool.close)
            await contents.delete_orphans()
            keys.start()
            stack.push_async_callback(keys.close)
            if clock_connection is not None:
                stack.push_async_callback(clock_connection.drop)
            store.start()
            stack.push_async_callback(store.close)
            reply_cleanup = asyncio.create_task(_delete_expired_replies(store), name="forget replies")
            stack.callback(reply_cleanup.cancel)
            for make_follower in extensions.follower_factories:
                follower = make_follower(store)
                await follower.start()
                stack.push_async_callback(follower.close)
            yield

    app = LedgerApp(
        title="Ledger",
        version=__version__,
        description="Customer sessions, disputes and events over Stripe's wire protocol.",
        lifespan=lifespan,
    )
    log_access = access_log(metrics, settings)
    app.internal_api = InternalApiMiddleware(
        super(LedgerApp, app).__call__,
        render_error=_render_error,
        log_access=log_access,
        body_bytes_max=settings.body_bytes_max,
    )
    app.public_api = PublicApi(
        RouteTable(OPERATIONS),
        keys,
        execution,
        queries,
        refresh_clock=refresh_clock,
        render_error=_render_error,
        log_access=log_access,
        rate_limits=rate_limits,
        contents=contents,
        upload_receiver=UploadReceiver(
            contents, clock, file_bytes_max=settings.file_bytes_max, fields_bytes_max=settings.body_bytes_max
        ),
        public_url=settings.public_url,
        body_bytes_max=settings.body_bytes_max,
    )
    extend_openapi(app, OPERATIONS)
    callers = Callers(keys, refresh_clock, rate_limits)
    routers = (
        external_fact_routes(callers, execution),
        key_routes(callers, keys, pool, execution, clock),
        import_routes(callers, execution, render_error_body),
        resource_routes(callers, execution, Publications(pool, store.codec)),
        customer_session_routes(callers, execution, queries),
        *(make_router(callers, store) for make_router in extensions.router_factories),
    )
    app.include_router(internal_routes(settings, callers, clock, pool, routers))
    app.include_router(file_link_routes(queries, contents, refresh_clock))
    _add_health_routes(app, pool, clock, metrics, terms)
    app.add_exception_handler(LedgerError, _handle_error)
    app.add_exception_handler(psycopg.OperationalError, _handle_database_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(Exception, _handle_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    return app


def build_queries(store: Store, pool: Pool, settings: Settings) -> QueryContext:
    """What the queries of this process read from."""
    return QueryContext(
        store=store,
        pool=pool,
        pages=Pages(pool, store.clock, wait_ms=settings.list_wait_ms),
        link_urls=FileLinkUrls(store.secret_key),
    )


def build_execution(store: Store, queries: QueryContext, settings: Settings) -> Execution:
    """Runs the commands of this process, and encodes their answers for the wire."""
    environment = CommandEnvironment(
        terms=build_terms(settings),
        session_secrets=SessionSecrets(store.secret_key),
        derive_endpoint_secret=WebhookSecrets(store.secret_key).derive,
        link_urls=queries.link_urls,
        storage=FileStorage(queries.pool, store.secret_key),
        find_charge_id=partial(find_charge_id, queries),
    )
    return Execution(store, environment, encode=_encode_answer, attempts_max=settings.decide_attempts_max)


async def _delete_expired_replies(store: Store) -> None:
    """Every hour, drop the replies of idempotency keys whose day is over (contract §1.9)."""
    while True:
        try:
            await store.journal.delete_old_replies(store.clock.now() - REPLY_RETENTION_SECONDS)
        except psycopg.Error as error:
            log.warning("replies are not forgotten now", reason=type(error).__name__)
        await asyncio.sleep(REPLY_CLEANUP_INTERVAL_SECONDS)


def build_terms(settings: Settings) -> Terms:
    """What the deployment has set for money, deadlines and limits."""
    return Terms(
        fee_credited_on_win=settings.dispute_fee_credited,
        due_days=settings.dispute_due_days,
        session_seconds=settings.session_seconds,
        webhook_endpoints_max=settings.webhook_endpoints_max,
    )


def _encode_answer(answer: Mapping[str, Any] | RequestError) -> tuple[int, str]:
    if not isinstance(answer, RequestError):
        return 200, encode_object(answer)
    for error_class, status, error_type in _STATUS_CODES:
        if isinstance(answer, error_class):
            return status, encode_refusal(answer, error_type)
    raise AssertionError("every refusal is a Refused")


def _render_error(error: Exception) -> tuple[int, str, Headers]:
    """What is answered when a request ends in an error. Internals are not told."""
    refusal: RequestError
    match error:
        case RequestError():
            return *_encode_answer(error), []
        case QueueFull():
            refusal = RateLimited(
                "Request rate limit exceeded. The service is taking as much as it can; retry shortly.",
                code="rate_limit",
            )
            return *_encode_answer(refusal), _RETRY_HEADERS
        case ConcurrencyConflict():
            refusal = RateLimited(
                "This object cannot be accessed right now because another API request or Stripe process is "
                "currently accessing it. If you see this error intermittently, retry the request.",
                code="lock_timeout",
            )
            return *_encode_answer(refusal), _RETRY_HEADERS
        case Unavailable():
            log.warning("unavailable", reason=str(error))
            refusal = InternalError("The ledger cannot take this request right now. Please retry.")
            return *_encode_answer(refusal), _RETRY_HEADERS
    log.error("fault", exc_info=error)
    return *_encode_answer(InternalError("An unexpected error occurred.")), []


def render_error_body(error: Exception) -> str:
    """The error envelope alone, for a line among others."""
    return _render_error(error)[1]


async def _handle_error(request: Request, error: Exception) -> Response:
    status, body, headers = _render_error(error)
    response_headers = {name.decode(): value.decode() for name, value in headers}
    if not hasattr(request.state, "exchange"):  # outside the two APIs; they number their requests
        response_headers["request-id"] = new_id("req", time.time())
    return Response(body, status, response_headers, "application/json")


async def _handle_database_error(request: Request, error: Exception) -> Response:
    return await _handle_error(request, Unavailable(first_line(error)))


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    """FastAPI raises by number for what it cannot route, and for a body that is no JSON text at all."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return await _handle_error(request, invalid_json_error())
    refusal = UnknownRoute(f"Unrecognized request URL ({request.method}: {request.url.path}).")
    return await _handle_error(request, refusal)


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _handle_error(request, validation_error(error.errors()[0], skip=1))


def _add_health_routes(
    app: FastAPI,
    pool: Pool,
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
                projection_lags = await read_lags(conn, clock.now())
        except psycopg.Error as error:
            response.status_code = 503
            return {"status": "unavailable", "database": type(error).__name__}
        stuck = [
            lag.projection for lag in projection_lags if lag.live and lag.seconds > READY_LAG_SECONDS_MAX
        ]
        incomplete = [lag.projection for lag in projection_lags if lag.live and lag.parked]
        if stuck or not projection_lags:
            response.status_code = 503
        return {
            "status": "stuck" if stuck else "starting" if not projection_lags else "ok",
            "stuck": stuck,
            "incomplete": incomplete,
            "projections": [lag._asdict() for lag in projection_lags],
        }

    @app.get("/metrics", tags=["health"])
    async def exposition() -> Response:
        """Prometheus metrics; without those that stand in the database while it does not answer."""
        projection_lags: list[Lag] = []
        overdue: dict[str, float] = {}
        webhook_backlog: WebhookBacklog | None = None
        with suppress(psycopg.OperationalError):
            async with pool.connection(timeout=2) as conn:
                projection_lags = await read_lags(conn, clock.now())
                overdue = await read_overdue_seconds(conn, terms, clock.now())
                webhook_backlog = await read_backlog(conn, clock.now())
        return Response(
            metrics.render(projection_lags, overdue, webhook_backlog), media_type="text/plain; version=0.0.4"
        )

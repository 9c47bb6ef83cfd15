"""The composition root of an API process: it creates the components and connects them, and does nothing else.

`create_app` makes one ASGI application of the public API (/v1 and /v2, answered before FastAPI's routing),
the internal API (/internal/v1), file links, /docs, /healthz, /readyz and /metrics.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import structlog
from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send

from ledger import __version__
from ledger.alerts.service import AlertService
from ledger.api.access_log import access_log
from ledger.api.clock import ClockReader
from ledger.api.composition import build_execution, build_queries
from ledger.api.console.routes import add_policy, console_routes, is_of_console
from ledger.api.console.sessions import SESSION_PATH, session_routes
from ledger.api.error_handlers import add_error_handlers, answer_within
from ledger.api.errors import (
    V1_ANSWERS,
    V2_ANSWERS,
    Answers,
    RenderError,
    render_error,
    render_error_body,
    render_v2_error,
)
from ledger.api.health import health_routes
from ledger.api.internal.alerts import alert_routes
from ledger.api.internal.audit.objects import ObjectReader
from ledger.api.internal.audit.router import audit_routes
from ledger.api.internal.callers import Callers
from ledger.api.internal.customer_sessions import customer_session_routes
from ledger.api.internal.disputes import dispute_board_routes
from ledger.api.internal.erasure.certificates import erasure_routes
from ledger.api.internal.external_facts import external_fact_routes
from ledger.api.internal.feed import FeedReaders, feed_routes
from ledger.api.internal.keys import key_routes
from ledger.api.internal.legal_holds import legal_hold_routes
from ledger.api.internal.middleware import InternalApiMiddleware
from ledger.api.internal.ndjson_import import import_routes
from ledger.api.internal.requests import request_routes
from ledger.api.internal.resources import resource_routes
from ledger.api.internal.router import internal_routes
from ledger.api.internal.webhooks.router import webhook_routes
from ledger.api.key_cache import KeyCache
from ledger.api.openapi.document import extend_openapi, name_route
from ledger.api.pages.routes import add_pages
from ledger.api.paths import answer_head_as_get, keep_encoded_slashes
from ledger.api.public.dialect import V1, Dialect
from ledger.api.public.downloads import file_link_routes
from ledger.api.public.multipart import UploadReceiver
from ledger.api.public.operations import Operation, RouteTable
from ledger.api.public.protocol import PublicApi
from ledger.api.public.routes import OPERATIONS
from ledger.api.rate_limits import RateLimits
from ledger.api.stripe_cli.routes import SOCKET_PATH, make_operations
from ledger.api.stripe_cli.socket import ListenerSocket
from ledger.api.v2.dialect import V2
from ledger.api.v2.routes import V2_OPERATIONS
from ledger.audit.accesses import Accesses
from ledger.background import Closers, Service
from ledger.clock import Clock
from ledger.commands.execution import Execution
from ledger.commands.resources import Publications
from ledger.commands.session_secrets import EphemeralKeys
from ledger.config import Settings
from ledger.feed.feed import Feed
from ledger.keys.service_keys import ServiceKeys
from ledger.metrics.lag_samples import LagSampler
from ledger.metrics.loops import LoopBoard
from ledger.metrics.prometheus import Metrics
from ledger.postgres.connections import Pool
from ledger.queries.context import QueryContext
from ledger.request_log.recorder import RequestRecorder
from ledger.store.replies import ReplyCleanup
from ledger.store.store import Store
from ledger.stripe_cli.listeners import Listeners
from ledger.stripe_cli.request_tails import RequestTails

CLOSE_SECONDS_MIN = 0.8

log = structlog.get_logger()

ServiceFactory = Callable[[Store], Service]
RouterFactory = Callable[[Callers, Store, Accesses], APIRouter]


class Extensions(NamedTuple):
    """What other packages add to a process: background services, routes of the internal API, the names of the
    projections that this release keeps up to date (None: not known), the schemas of the routes' answers, and
    the figures of the background loops of all processes (None: there is one).
    """

    service_factories: Sequence[ServiceFactory] = ()
    router_factories: Sequence[RouterFactory] = ()
    projections: Sequence[str] | None = None
    build_schemas: Callable[[], Mapping[str, Any]] = dict
    loop_board: LoopBoard | None = None


NO_EXTENSIONS = Extensions()


class LedgerApp(FastAPI):
    """FastAPI, except that the public protocol handles /v1 and /v2 before its routing, and the internal API's
    middleware wraps it for /internal/v1. There is one websocket, the Stripe CLI's.

    own_host         host and port at which a program on this machine reaches the service
    request_seconds  limit of the time until an answer begins
    drain_seconds    how long requests under way may take once the process is to end
    """

    own_host = b"localhost"
    request_seconds: float
    drain_seconds: float
    stopped_at: float | None = None
    public_api: PublicApi
    v2_api: PublicApi
    internal_api: InternalApiMiddleware
    listener_socket: ListenerSocket
    feed: Feed

    def stop(self) -> None:
        """Begin to count the time in which the process has to end, and end what would never end by itself."""
        self.stopped_at = time.monotonic()
        self.feed.stop()

    def get_close_seconds(self) -> float:
        """How much of that time is left for closing, once requests are drained."""
        now = time.monotonic()
        stopped_at = now if self.stopped_at is None else self.stopped_at
        return max(CLOSE_SECONDS_MIN, stopped_at + self.drain_seconds + CLOSE_SECONDS_MIN - now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == SOCKET_PATH:
            await self.listener_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        keep_encoded_slashes(scope)
        if is_of_console(scope["path"]):
            send = add_policy(send)
        if (scope["path"] + "/").startswith("/v1/"):
            await self.public_api(scope, receive, send)
        elif (scope["path"] + "/").startswith("/v2/"):
            await self.v2_api(scope, receive, send)
        elif scope["path"].startswith("/internal/v1/") or scope["path"] == SESSION_PATH:
            await self.internal_api(scope, receive, send)
        else:
            await answer_within(
                self.request_seconds, super().__call__, answer_head_as_get(scope), receive, send
            )


class _Components(NamedTuple):
    """What the parts of one process share."""

    settings: Settings
    clock: Clock
    clock_reader: ClockReader
    store: Store
    pool: Pool
    keys: KeyCache
    rate_limits: RateLimits
    metrics: Metrics
    queries: QueryContext
    execution: Execution
    accesses: Accesses
    feed: Feed
    listeners: Listeners
    request_tails: RequestTails
    request_recorder: RequestRecorder | None


def create_app(
    settings: Settings, dsn: str, service_keys: ServiceKeys | bytes, *, extensions: Extensions = NO_EXTENSIONS
) -> LedgerApp:
    """The application of one process. It serves requests once its lifespan has started."""
    components = _create_components(settings, dsn, service_keys)
    loop_board = extensions.loop_board or LoopBoard()
    clock, clock_reader = components.clock, components.clock_reader
    store, pool, queries = components.store, components.pool, components.queries
    storage = components.execution.environment.storage
    callers = Callers(components.keys, clock_reader.refresh, components.rate_limits)
    app = LedgerApp(
        title="Ledger",
        version=__version__,
        description="Customer sessions, disputes and events over Stripe's wire protocol.",
        lifespan=_create_lifespan(components, extensions, loop_board),
        generate_unique_id_function=name_route,
        docs_url=None,  # `add_pages` has a reference that loads nothing from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the redirect would have no envelope, and no request id
    )
    app.request_seconds = settings.request_timeout_ms / 1000
    app.drain_seconds = settings.drain_seconds
    reader = ObjectReader(callers, queries, components.accesses, settings.public_url)
    app.internal_api = InternalApiMiddleware(
        super(LedgerApp, app).__call__,
        render_error=render_error,
        log_access=access_log(components.metrics, settings, components.request_recorder),
        body_bytes_max=settings.body_bytes_max,
        durability=store.durability,
        request_seconds=app.request_seconds,
        find_direct=reader.find,
    )
    v1_operations = (*OPERATIONS, *make_operations(settings.stripe_cli_connection_seconds))
    app.public_api = _create_public_api(components, v1_operations, V1, V1_ANSWERS, render_error)
    app.v2_api = _create_public_api(components, V2_OPERATIONS, V2, V2_ANSWERS, render_v2_error)
    app.feed = components.feed
    app.listener_socket = ListenerSocket(components.listeners, render_error)
    extend_openapi(
        app, (*OPERATIONS, *V2_OPERATIONS), extensions.build_schemas, public_url=settings.public_url
    )
    routers = [
        *_create_internal_routers(components, callers),
        audit_routes(callers, queries, components.accesses, reader, settings),
        *(
            create_router(callers, store, components.accesses)
            for create_router in extensions.router_factories
        ),
    ]
    app.include_router(internal_routes(settings, callers, clock, pool, routers))
    app.include_router(file_link_routes(queries, storage, clock_reader.refresh))
    app.include_router(
        health_routes(pool, clock, components.metrics, settings, extensions.projections, loop_board.measure)
    )
    if settings.console:
        session_parts = (components.keys, pool, clock_reader.refresh, components.rate_limits)
        app.include_router(session_routes(settings, *session_parts))
        app.include_router(console_routes())
    add_pages(app, has_console=settings.console)
    add_error_handlers(app)
    return app


def _create_components(settings: Settings, dsn: str, service_keys: ServiceKeys | bytes) -> _Components:
    clock = Clock(movable=settings.test_clock)
    store = Store(dsn, service_keys, settings, clock)
    pool = Pool(dsn)
    metrics, kept = Metrics(), settings.request_log
    store.journal.on_append = metrics.observe_append
    if store.replica is not None:
        store.replica.on_read = metrics.count_replica_read
        metrics.get_replica_status = store.replica.get_status
    queries = build_queries(store, pool, settings)
    execution = build_execution(store, queries, settings)
    ephemeral_keys = EphemeralKeys(execution.environment.session_secrets, store.streams)
    return _Components(
        settings=settings,
        clock=clock,
        clock_reader=ClockReader(clock, dsn, movable=settings.test_clock),
        store=store,
        pool=pool,
        keys=KeyCache(dsn, ephemeral_keys.find, has_console=settings.console),
        rate_limits=RateLimits(
            key_per_second=settings.key_requests_per_second,
            account_per_second=settings.account_requests_per_second,
        ),
        metrics=metrics,
        queries=queries,
        execution=execution,
        accesses=Accesses(pool, clock, store.durability, service_keys),
        feed=Feed(store, metrics),
        listeners=Listeners(store, metrics),
        request_tails=RequestTails(store),
        request_recorder=None if kept == "none" else RequestRecorder(store, kept),
    )


def _create_public_api(
    components: _Components,
    operations: Sequence[Operation],
    dialect: Dialect,
    answers: Answers,
    render_error: RenderError,
) -> PublicApi:
    settings, queries = components.settings, components.queries
    storage = components.execution.environment.storage
    return PublicApi(
        RouteTable(operations),
        dialect,
        components.keys,
        components.execution,
        queries,
        answers=answers,
        refresh_clock=components.clock_reader.refresh,
        render_error=render_error,
        log_access=access_log(
            components.metrics, settings, components.request_recorder, components.request_tails
        ),
        rate_limits=components.rate_limits,
        storage=storage,
        upload_receiver=UploadReceiver(
            storage,
            components.clock,
            file_bytes_max=settings.file_bytes_max,
            fields_bytes_max=settings.body_bytes_max,
        ),
        public_url=settings.public_url,
        body_bytes_max=settings.body_bytes_max,
        request_seconds=settings.request_timeout_ms / 1000,
    )


def _create_internal_routers(components: _Components, callers: Callers) -> list[APIRouter]:
    execution, store, pool = components.execution, components.store, components.pool
    readers = FeedReaders(
        components.feed, callers, components.keys, components.clock_reader.refresh, components.pool
    )
    return [
        external_fact_routes(callers, execution),
        key_routes(callers, components.keys, pool, execution, components.clock),
        import_routes(callers, execution, render_error_body),
        resource_routes(callers, execution, Publications(pool, store.codec)),
        customer_session_routes(callers, execution, components.queries),
        dispute_board_routes(callers, components.queries),
        webhook_routes(callers, execution, components.queries),
        feed_routes(callers, readers),
        legal_hold_routes(callers, execution, components.queries),
        request_routes(callers, pool, components.clock, components.settings.request_log),
        alert_routes(callers, execution, pool, components.settings, store.service_keys),
        erasure_routes(callers, components.queries, components.accesses),
    ]


def _create_lifespan(
    components: _Components, extensions: Extensions, loop_board: LoopBoard
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Starts what the process needs, in order, and closes it in reverse; also when a start fails."""
    store, pool, keys = components.store, components.pool, components.keys

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert isinstance(app, LedgerApp)
        closers = Closers()
        try:
            closers.add("pool", pool.close)
            await pool.open()
            closers.add("pages", components.queries.pages.close)
            await components.execution.environment.storage.delete_orphans()
            await closers.start([keys])
            closers.add("clock", components.clock_reader.close)
            await closers.start([components.accesses])
            await closers.start([loop_board, store])
            if store.replica is not None:
                await closers.start([store.replica])
            cleanup = ReplyCleanup(store.dsn, store.clock, store.journal.appender_id)
            services: list[Service] = [
                components.listeners,
                components.request_tails,
                components.feed,
                cleanup,
                AlertService(store, components.settings, extensions.projections),
            ]
            if components.request_recorder is not None:
                services.append(components.request_recorder)
            if not extensions.service_factories:  # a worker, which samples too, may not be running
                services.append(LagSampler(store.dsn, store.clock.read))
            services += [create_service(store) for create_service in extensions.service_factories]
            await closers.start(services)
            yield
        finally:
            await closers.close(app.get_close_seconds())
            components.metrics.fold_requests()

    return lifespan

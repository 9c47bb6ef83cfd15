"""Run the service: its processes, where it listens, and its shutdown.

`serve` supervises an API process, or LEDGER_WORKERS of them, and a worker for what runs in the background,
and restarts one that dies. With LEDGER_WORKERS=0, the default on one core, it does all of this itself. On
SIGTERM and SIGINT the service drains: requests under way finish, and no acknowledged change is lost.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, nullcontext
from functools import partial
from types import FrameType
from typing import NamedTuple

import uvicorn
import uvloop
from prometheus_client.multiprocess import mark_process_dead

from ledger.alerts.service import AlertService
from ledger.api.app import Extensions, LedgerApp, create_app
from ledger.api.stripe_cli.login import add_login
from ledger.api.stripe_cli.websocket import FRAME_BYTES_MAX, PING_SECONDS, PONG_SECONDS_MAX, WebSocketProtocol
from ledger.api.transport import HttpProtocol
from ledger.api.worker_health import create_worker_health_app
from ledger.background import Closers
from ledger.cli.service.development import (
    find_login_url,
    format_stripe_cli_command,
    format_welcome,
    load_development_keys,
)
from ledger.cli.service.health_port import serve_health
from ledger.cli.service.listener import LISTEN_BACKLOG, format_url, open_listener, open_listeners
from ledger.cli.service.metrics_folder import keep_metrics_in, open_metrics_folder, remove_leftover_folders
from ledger.cli.service.processes import Supervisor, Task, reduce_garbage_collection
from ledger.cli.service.unix_listener import UnixListener, open_unix_listener
from ledger.clock import Clock
from ledger.config import Settings
from ledger.errors import SettingError
from ledger.keys.service_keys import ServiceKeys
from ledger.metrics.loops import LoopBoard
from ledger.postgres.connections import open_connection
from ledger.postgres.deployment import open_database, open_own_database
from ledger.postgres.migrations import migrate
from ledger.service_key import check_database, check_service_key
from ledger.store.store import Store
from ledger.webhooks.switch import OffReason, read_switch

KEEP_ALIVE_SECONDS = 75


class _Listeners(NamedTuple):
    """Where the API listens.

    url    of the port, for a program on this machine
    ports  a socket on the port for each API process
    unix   the Unix socket, if there is one, which they share: a path has only one
    login  the URL at which `stripe login` is confirmed; None: nobody can log in
    """

    url: str
    ports: Sequence[socket.socket]
    unix: UnixListener | None
    login: str | None

    def __str__(self) -> str:
        return self.url if self.unix is None else f"{self.url} and on {self.unix.path}"

    def list_of(self, port: socket.socket) -> list[socket.socket]:
        """The sockets of the API process with this one on the port."""
        return [port] if self.unix is None else [port, self.unix.sock]

    def close(self) -> None:
        """Stop listening, as far as this process does."""
        for sock in self.ports:
            sock.close()
        if self.unix is not None:
            self.unix.close()


def serve(settings: Settings, extensions: Extensions, announce: Callable[[str], None]) -> None:
    """Run the API and the background services until a signal stops them, with an embedded database if no
    other is configured. `announce` shows a text to the person who started the service.

    Raises SettingError when it cannot listen, or cannot use the database.
    """
    remove_leftover_folders()
    with ExitStack() as stack:
        listeners = stack.enter_context(_open_listeners(settings, may_log_in=True))
        dsn, configured = stack.enter_context(open_own_database(settings))
        if settings.database_url is not None:
            migrate(dsn)
        service_keys = check_service_key(settings, dsn, configured)
        if settings.database_url is not None:
            announce(
                f"Ledger listens on {listeners}. Create an account and its keys with: "
                "ledger accounts create NAME, ledger keys create ACCOUNT"
            )
            if stripe_cli := format_stripe_cli_command(listeners.url, "sk_test_..."):
                announce(f"With the Stripe CLI: {stripe_cli}")
        else:
            keys = load_development_keys(settings, dsn, listeners.url)
            announce(format_welcome(keys, listeners=str(listeners), has_console=settings.console))
        if off_reasons := asyncio.run(_read_webhooks_off(settings, dsn)):
            announce(f"Webhooks are off ({', '.join(off_reasons)}): see `ledger webhooks status`.")
        if settings.workers == 0:
            _run_api(settings, dsn, service_keys, extensions, listeners, listeners.ports[0])
        else:
            _supervise(settings, dsn, service_keys, extensions, listeners, with_worker=True)


def serve_api(settings: Settings, extensions: Extensions) -> None:
    """Run the API only, until a signal stops it.

    Raises SettingError when it cannot listen, and when the database is not migrated to this release or was
    made with another service key.
    """
    if settings.stripe_cli_login:
        raise SettingError("LEDGER_STRIPE_CLI_LOGIN: only for development, with `ledger serve`")
    remove_leftover_folders()
    with ExitStack() as stack:
        dsn, configured = stack.enter_context(open_database(settings))
        service_keys = check_database(settings, dsn, configured)
        listeners = stack.enter_context(_open_listeners(settings))
        if len(listeners.ports) == 1:
            extensions = extensions._replace(service_factories=())
            _run_api(settings, dsn, service_keys, extensions, listeners, listeners.ports[0])
        else:
            _supervise(settings, dsn, service_keys, extensions, listeners, with_worker=False)


def run_worker(settings: Settings, extensions: Extensions) -> None:
    """Run only the background services, and the health port if there is to be one, until a signal stops them.

    Raises SettingError when it cannot listen, and when the database is not migrated to this release or was
    made with another service key.
    """
    with ExitStack() as stack:
        dsn, configured = stack.enter_context(open_database(settings))
        service_keys = check_database(settings, dsn, configured)
        sock = None
        if settings.health_port is not None:
            hint = "LEDGER_HOST, LEDGER_HEALTH_PORT"
            sock = stack.enter_context(open_listener(settings.host, settings.health_port, hint=hint))
        _run_worker(settings, dsn, service_keys, extensions, sock)


def _supervise(
    settings: Settings,
    dsn: str,
    service_keys: ServiceKeys,
    extensions: Extensions,
    listeners: _Listeners,
    *,
    with_worker: bool,
) -> None:
    """Supervise an API process for each of the sockets on the port, whose metrics are shared if there are
    several; and perhaps a worker."""
    loop_board = LoopBoard(len(listeners.ports) + with_worker)
    extensions = extensions._replace(loop_board=loop_board)
    api_extensions = extensions._replace(service_factories=())
    with open_metrics_folder() if len(listeners.ports) > 1 else nullcontext() as shared_metrics:
        metrics_fds = [] if shared_metrics is None else [shared_metrics.lock_fd]

        def run_api(slot: int, sock: socket.socket) -> None:
            loop_board.take_slot(slot)
            if shared_metrics is not None:
                keep_metrics_in(shared_metrics.folder)
            _run_api(settings, dsn, service_keys, api_extensions, listeners, sock)

        def run_worker() -> None:
            loop_board.take_slot(len(listeners.ports))
            _run_worker(settings, dsn, service_keys, extensions, None)

        def forget(pid: int) -> None:
            if shared_metrics is not None:
                mark_process_dead(pid, str(shared_metrics.folder))  # type: ignore[no-untyped-call]

        tasks = [
            Task(
                "ledger api",
                partial(run_api, slot, sock),
                inherited_fds=(*(each.fileno() for each in listeners.list_of(sock)), *metrics_fds),
            )
            for slot, sock in enumerate(listeners.ports)
        ]
        if with_worker:
            tasks.append(Task("ledger worker", run_worker, ends_last=True))
        Supervisor(tasks).run(
            end_seconds=settings.drain_seconds + 1, stop_listening=listeners.close, forget=forget
        )


def _run_worker(
    settings: Settings,
    dsn: str,
    service_keys: ServiceKeys,
    extensions: Extensions,
    health_sock: socket.socket | None,
) -> None:
    reduce_garbage_collection()
    uvloop.run(_run_services(settings, dsn, service_keys, extensions, health_sock))


def _run_api(
    settings: Settings,
    dsn: str,
    service_keys: ServiceKeys,
    extensions: Extensions,
    listeners: _Listeners,
    port: socket.socket,
) -> None:
    app = create_app(settings, dsn, service_keys, extensions=extensions)
    app.own_host = listeners.url.removeprefix("http://").encode()
    if listeners.login is not None:
        add_login(app, settings, dsn, service_keys, listeners.login)
    reduce_garbage_collection()
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=FRAME_BYTES_MAX,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS_MAX,
        ws_per_message_deflate=False,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=LISTEN_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = _Server(config, app)

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal again once it has drained. By default that would end the process there and
    # leave an embedded database running. A signal that arrives before uvicorn listens is not lost either.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run(sockets=listeners.list_of(port))


class _Server(uvicorn.Server):
    """A server that tells its application when it begins to drain."""

    def __init__(self, config: uvicorn.Config, app: LedgerApp) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn does for a signal."""
        self._app.stop()
        super().handle_exit(sig, frame)


async def _run_services(
    settings: Settings,
    dsn: str,
    service_keys: ServiceKeys,
    extensions: Extensions,
    health_sock: socket.socket | None,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = Store(dsn, service_keys, settings, Clock(movable=settings.test_clock))
    async with AsyncExitStack() as stack:
        if health_sock is not None:
            app = create_worker_health_app(store, settings, extensions.projections)
            await stack.enter_async_context(serve_health(app, health_sock))
        closers = Closers()
        try:
            await closers.start([extensions.loop_board or LoopBoard(), store])
            await closers.start(
                [AlertService(store, settings, extensions.projections)]
                + [create_service(store) for create_service in extensions.service_factories]
            )
            await stop.wait()
        finally:
            await closers.close(settings.drain_seconds)


@contextmanager
def _open_listeners(settings: Settings, *, may_log_in: bool = False) -> Iterator[_Listeners]:
    """The sockets of the API processes. Raises SettingError."""
    count = max(settings.workers, 1)
    with ExitStack() as stack:
        hint = "LEDGER_HOST, LEDGER_PORT"
        ports = stack.enter_context(open_listeners(settings.host, settings.port, count, hint=hint))
        unix = None
        if settings.unix_socket is not None:
            unix = stack.enter_context(open_unix_listener(settings.unix_socket))
        url = format_url(settings.host, ports[0].getsockname()[1])
        yield _Listeners(url, ports, unix, find_login_url(settings, url) if may_log_in else None)


async def _read_webhooks_off(settings: Settings, dsn: str) -> list[OffReason]:
    async with open_connection(dsn, "ledger_api", name="webhooks") as conn:
        return (await read_switch(conn)).list_off_reasons(settings.webhooks)

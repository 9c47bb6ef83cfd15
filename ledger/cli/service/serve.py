"""Run the service: its processes, its development keys and its shutdown.

`serve` supervises an API process, or LEDGER_WORKERS of them, and a worker for what runs in the background,
and restarts one that dies. With LEDGER_WORKERS=0, the default on one core, it does all of this itself. On
SIGTERM and SIGINT the service drains: requests under way finish, and no acknowledged change is lost.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, nullcontext
from functools import partial

import uvicorn
import uvloop
from prometheus_client.multiprocess import mark_process_dead

from ledger.accounts import INTERNAL_SCOPES, create_account, create_key
from ledger.api.app import Extensions, create_app
from ledger.api.stripe_cli.websocket import FRAME_BYTES_MAX, PING_SECONDS, PONG_SECONDS_MAX, WebSocketProtocol
from ledger.api.transport import HttpProtocol
from ledger.api.worker_health import create_worker_health_app
from ledger.cli.service.health_port import serve_health
from ledger.cli.service.listener import LISTEN_BACKLOG, format_url, open_listener, open_listeners
from ledger.cli.service.metrics_folder import keep_metrics_in, open_metrics_folder, remove_leftover_folders
from ledger.cli.service.processes import Supervisor, Task, reduce_garbage_collection
from ledger.clock import Clock
from ledger.config import Settings
from ledger.postgres.connections import Conn, open_connection
from ledger.postgres.deployment import open_database, open_own_database
from ledger.postgres.migrations import migrate
from ledger.postgres.private_files import write_private_file
from ledger.service_key import check_database, check_service_key
from ledger.store.store import Store
from ledger.webhooks.switch import OffReason, read_switch

KEEP_ALIVE_SECONDS = 75
DEV_KEYS_FILE = "dev-keys.json"


def serve(settings: Settings, extensions: Extensions, announce: Callable[[str], None]) -> None:
    """Run the API and the background services until a signal stops them, with an embedded database if no
    other is configured. `announce` shows a text to the person who started the service.

    Raises SettingError when it cannot listen, or cannot use the database.
    """
    remove_leftover_folders()
    with ExitStack() as stack:
        socks = stack.enter_context(_open_listeners(settings))
        dsn, service_key = stack.enter_context(open_own_database(settings))
        url = format_url(settings.host, socks[0])
        if settings.database_url is not None:
            migrate(dsn)
        check_service_key(settings, dsn, service_key)
        if settings.database_url is not None:
            announce(
                f"Ledger listens on {url}. Create an account and its keys with: "
                "ledger accounts create NAME, ledger keys create ACCOUNT"
            )
        else:
            announce(_welcome_text(_load_dev_keys(settings, dsn, url)))
        if off_reasons := asyncio.run(_read_webhooks_off(settings, dsn)):
            announce(f"Webhooks are off ({', '.join(off_reasons)}): see `ledger webhooks status`.")
        if settings.workers == 0:
            _run_api(settings, dsn, service_key, extensions, socks[0])
        else:
            worker = Task(
                "ledger worker",
                lambda: _run_worker(settings, dsn, service_key, extensions, None),
                ends_last=True,
            )
            _supervise(settings, dsn, service_key, extensions, socks, [worker])


def serve_api(settings: Settings, extensions: Extensions) -> None:
    """Run the API only, until a signal stops it.

    Raises SettingError when it cannot listen, and when the database is not migrated to this release or was
    made with another service key.
    """
    remove_leftover_folders()
    with ExitStack() as stack:
        dsn, service_key = stack.enter_context(open_database(settings))
        check_database(settings, dsn, service_key)
        socks = stack.enter_context(_open_listeners(settings))
        if len(socks) == 1:
            _run_api(settings, dsn, service_key, extensions._replace(service_factories=()), socks[0])
        else:
            _supervise(settings, dsn, service_key, extensions, socks, [])


def run_worker(settings: Settings, extensions: Extensions) -> None:
    """Run only the background services, and the health port if there is to be one, until a signal stops them.

    Raises SettingError when it cannot listen, and when the database is not migrated to this release or was
    made with another service key.
    """
    with ExitStack() as stack:
        dsn, service_key = stack.enter_context(open_database(settings))
        check_database(settings, dsn, service_key)
        sock = None
        if settings.health_port is not None:
            hint = "LEDGER_HOST, LEDGER_HEALTH_PORT"
            sock = stack.enter_context(open_listener(settings.host, settings.health_port, hint=hint))
        _run_worker(settings, dsn, service_key, extensions, sock)


def _supervise(
    settings: Settings,
    dsn: str,
    service_key: bytes,
    extensions: Extensions,
    socks: Sequence[socket.socket],
    other_tasks: Sequence[Task],
) -> None:
    """Supervise an API process for each of the listening sockets, whose metrics are shared if there are
    several; and a process for each of `other_tasks`."""
    api_extensions = extensions._replace(service_factories=())
    with open_metrics_folder() if len(socks) > 1 else nullcontext() as shared_metrics:
        metrics_fds = [] if shared_metrics is None else [shared_metrics.lock_fd]

        def run_api(sock: socket.socket) -> None:
            if shared_metrics is not None:
                keep_metrics_in(shared_metrics.folder)
            _run_api(settings, dsn, service_key, api_extensions, sock)

        def forget(pid: int) -> None:
            if shared_metrics is not None:
                mark_process_dead(pid, str(shared_metrics.folder))  # type: ignore[no-untyped-call]

        def stop_listening() -> None:
            for sock in socks:
                sock.close()

        tasks = [
            Task("ledger api", partial(run_api, sock), inherited_fds=(sock.fileno(), *metrics_fds))
            for sock in socks
        ]
        Supervisor([*tasks, *other_tasks]).run(
            end_seconds=settings.drain_seconds + 1, stop_listening=stop_listening, forget=forget
        )


def _run_worker(
    settings: Settings,
    dsn: str,
    service_key: bytes,
    extensions: Extensions,
    health_sock: socket.socket | None,
) -> None:
    reduce_garbage_collection()
    uvloop.run(_run_services(settings, dsn, service_key, extensions, health_sock))


def _run_api(
    settings: Settings, dsn: str, service_key: bytes, extensions: Extensions, sock: socket.socket
) -> None:
    app = create_app(settings, dsn, service_key, extensions=extensions)
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
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal again once it has drained. By default that would end the process there and
    # leave an embedded database running. A signal that arrives before uvicorn listens is not lost either.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run(sockets=[sock])


async def _run_services(
    settings: Settings,
    dsn: str,
    service_key: bytes,
    extensions: Extensions,
    health_sock: socket.socket | None,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = Store(dsn, service_key, settings, Clock(movable=settings.test_clock))
    async with AsyncExitStack() as stack:
        if health_sock is not None:
            app = create_worker_health_app(store, settings, extensions.projections)
            await stack.enter_async_context(serve_health(app, health_sock))
        await store.start()
        stack.push_async_callback(store.close)
        for create_service in extensions.service_factories:
            service = create_service(store)
            stack.push_async_callback(service.close)
            await service.start()
        await stop.wait()


def _open_listeners(settings: Settings) -> AbstractContextManager[list[socket.socket]]:
    """The sockets of the API processes."""
    count = max(settings.workers, 1)
    return open_listeners(settings.host, settings.port, count, hint="LEDGER_HOST, LEDGER_PORT")


async def _read_webhooks_off(settings: Settings, dsn: str) -> list[OffReason]:
    async with open_connection(dsn, "ledger_api", name="webhooks") as conn:
        return (await read_switch(conn)).list_off_reasons(settings.webhooks)


def _load_dev_keys(settings: Settings, dsn: str, url: str) -> dict[str, str]:
    """The keys of the embedded database's test account, from a file that its first start writes."""
    file = settings.data_dir / DEV_KEYS_FILE
    if file.exists():
        keys: dict[str, str] = json.loads(file.read_text())
    else:
        keys = asyncio.run(_create_dev_account(dsn))
    if keys.get("url") != url:
        keys = {"url": url, **{name: value for name, value in keys.items() if name != "url"}}
        write_private_file(file, json.dumps(keys, indent=2) + "\n")
    return keys


async def _create_dev_account(dsn: str) -> dict[str, str]:
    async with open_connection(dsn, "ledger_api", name="dev keys") as conn, conn.transaction():
        account = await create_account(conn, "Development")
        return {"account": account, **await _create_dev_keys(conn, account)}


async def _create_dev_keys(conn: Conn, account: str) -> dict[str, str]:
    _, secret = await create_key(conn, account, "sk", livemode=False, name="dev secret")
    _, publishable = await create_key(conn, account, "pk", livemode=False, name="dev publishable")
    _, operator = await create_key(
        conn, account, "rk", livemode=False, name="dev operator", scopes=INTERNAL_SCOPES
    )
    return {"secret": secret, "publishable": publishable, "operator": operator}


def _welcome_text(keys: Mapping[str, str]) -> str:
    return f"""
Ledger listens on {keys["url"]}   (API description: {keys["url"]}/docs)

  account      {keys["account"]}
  secret       {keys["secret"]}
  publishable  {keys["publishable"]}
  operator     {keys["operator"]}

Try it:

  curl {keys["url"]}/v1/customers -u {keys["secret"]}: -d name="Jenny Rosen"

  python3 -c 'import stripe; stripe.api_key = "{keys["secret"]}"; \
stripe.api_base = stripe.upload_api_base = stripe.connect_api_base = stripe.meter_events_api_base = \
"{keys["url"]}"; \
print(stripe.Charge.create(amount=2000, currency="usd", source="tok_createDispute"))'
"""

"""What `ledger listen` does: it prints and forwards Events until it is stopped.

Beside one record of the access, at the start, it writes nothing to the database: what it shows and forwards
is no delivery, and nobody owes it anything.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import NamedTuple

from ledger import logs
from ledger.cli.audit.shell import record_as, record_command
from ledger.cli.events.event_lines import print_attempt, print_event, print_notice
from ledger.cli.events.forwarder import forward
from ledger.cli.events.live_events import (
    LiveEvents,
    Render,
    print_live,
    read_head,
    render_snapshot,
    render_thin,
)
from ledger.cli.groups import print_json
from ledger.cli.shell import (
    Deployment,
    choose_account,
    end_at_closed_output,
    run_until_stopped,
    warn_of_misspelt_settings,
)
from ledger.clock import Clock
from ledger.config import load_settings
from ledger.postgres.connections import LONG_ANSWER_SECONDS, Pool, open_connection
from ledger.postgres.deployment import read_running_database
from ledger.service_key import check_database
from ledger.stripe_cli.secrets import ListenerSecrets
from ledger.wire.event_types import expand_patterns
from ledger.wire.thin_events import to_snapshot_type

DEVICE = "ledger listen"
"""In place of the name of a device, of which the secret of a listener of the Stripe CLI is derived."""


class Start(NamedTuple):
    """Where listening begins: the account, and the position of the log after which Events are new."""

    account: str
    position: int


def print_secret(account: str | None, *, livemode: bool, as_json: bool) -> None:
    """Print the secret with which `listen` signs. Raises SettingError, Unavailable."""
    deployment = _find_deployment()
    chosen = asyncio.run(_find_start(deployment, account)).account
    secret = _derive_secret(deployment, chosen, livemode)
    if as_json:
        print_json({"secret": secret})
    else:
        print(secret)


def listen(
    account: str | None, patterns: list[str], url: str | None, *, thin: bool, livemode: bool, as_json: bool
) -> None:
    """Print Events of these types (none: all), and forward them to `url`, until SIGINT or SIGTERM. The types
    of thin events are those of their snapshots, with or without `v1.`.

    Raises SettingError for what cannot be begun, InvalidParameter for a type that there is not, Unavailable
    when the database cannot be reached at the start.
    """
    render = render_thin if thin else render_snapshot
    if thin:
        patterns = [to_snapshot_type(pattern) or pattern for pattern in patterns]
    types = frozenset(expand_patterns(patterns, "type")) if patterns else None
    deployment = _find_deployment()
    options = {
        "account": account, "events": patterns, "forward": url is not None, "live": livemode, "thin": thin,
    }  # fmt: skip
    with record_as("listen", options), end_at_closed_output():
        asyncio.run(_listen(deployment, account, types, url, render, livemode, as_json))


async def _listen(
    deployment: Deployment,
    account: str | None,
    types: frozenset[str] | None,
    url: str | None,
    render: Render,
    livemode: bool,
    as_json: bool,
) -> None:
    start = await _find_start(deployment, account)
    await _record(deployment, start.account, livemode)
    secret = _derive_secret(deployment, start.account, livemode)
    live_events = LiveEvents(deployment.settings, start.account, livemode, types)
    mode = "live" if livemode else "test"
    print_notice(f"listening to {start.account} in {mode} mode; signing secret: {secret}; Ctrl-C ends this")
    work = [print_live(live_events, start.position, partial(print_event, as_json=as_json), render)]
    if url is not None:
        work.append(
            forward(
                live_events.read(start.position),
                url,
                account=start.account,
                secret=secret,
                render=render,
                report=partial(print_attempt, as_json=as_json),
            )
        )
    await run_until_stopped(work)


def _find_deployment() -> Deployment:
    settings = load_settings()
    logs.configure("warning")
    dsn, configured = read_running_database(settings)
    service_keys = check_database(settings, dsn, configured)
    warn_of_misspelt_settings()
    return Deployment(settings, dsn, service_keys)


async def _find_start(deployment: Deployment, account: str | None) -> Start:
    async with open_connection(
        deployment.dsn, "ledger_api", name="cli", answer_seconds=LONG_ANSWER_SECONDS
    ) as conn:
        return Start(await choose_account(conn, account), await read_head(conn))


async def _record(deployment: Deployment, account: str, livemode: bool) -> None:
    async with Pool(deployment.dsn) as pool:
        clock = Clock(movable=deployment.settings.test_clock)
        async with pool.connection() as conn:
            await clock.refresh(conn)
        await record_command(pool, clock, deployment, account, livemode)


def _derive_secret(deployment: Deployment, account: str, livemode: bool) -> str:
    return ListenerSecrets(deployment.service_keys).derive(account, livemode, DEVICE)

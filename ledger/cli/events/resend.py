"""`ledger events resend`: an Event goes once more to an endpoint, or to the listeners of the Stripe CLI."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.audit.auditor import Auditor
from ledger.call import Call, Cause
from ledger.cli.audit.shell import AccountOption, LiveOption, RecordedCommand, run
from ledger.cli.events.event_lines import print_notice
from ledger.cli.groups import JsonOption, format_examples, print_json
from ledger.cli.shell import format_count, get_shell_user
from ledger.errors import SettingError
from ledger.queries.context import QueryContext
from ledger.queries.events import fetch_event
from ledger.stripe_cli.event_retry import retry_event
from ledger.stripe_cli.sessions import resend
from ledger.webhooks.switch import read_switch
from ledger.wire.thin_events import to_snapshot_id


def add_resend_command(group: typer.Typer) -> None:
    """Add `resend`."""

    @group.command(
        "resend",
        cls=RecordedCommand,
        epilog=format_examples(
            "ledger events resend evt_0352CZ3z1jWpJM7B8upbma --endpoint we_0352CZ3z1jWpJM7B8upbma",
            "ledger events resend evt_0352CZ3z1jWpJM7B8upbma",
        ),
    )
    def resend_event(
        event: Annotated[str, typer.Argument(help="The id of the Event (evt_…, or evt_thin_…).")],
        endpoint: Annotated[
            str | None,
            typer.Option(help="The endpoint (we_… or ed_…); default: listeners of the Stripe CLI."),
        ] = None,
        account: AccountOption = None,
        live: LiveOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Send an Event again, to an endpoint or to listeners.

        The endpoint gets it whatever its types are, also if it did not exist then; a worker sends it at once
        and tries again as for a new delivery. Listeners are those of `stripe listen`."""

        async def send(queries: QueryContext, auditor: Auditor) -> int:
            return await _resend(queries, auditor, to_snapshot_id(event) or event, endpoint)

        listeners = run(send, account=account, livemode=live)
        if as_json:
            print_json({"event": event, "endpoint": endpoint, "listeners": listeners})
        elif endpoint is None:
            print(f"{event} goes to {format_count(listeners, 'listener')} again.")
        else:
            print(f"{event} is due to {endpoint} now.")


async def _resend(queries: QueryContext, auditor: Auditor, event: str, endpoint: str | None) -> int:
    """Send the Event; returns to how many listeners. Raises RequestError, and SettingError without any."""
    # As its platform would: so an endpoint may be one of the account, or one of its platform.
    cause = Cause(auditor.account, auditor.livemode, get_shell_user(), None, None)
    call = Call(cause, event, {"webhook_endpoint": endpoint}, as_platform=True)
    if endpoint is None:
        await fetch_event(call, queries)
        async with queries.pool.connection() as conn:
            count = await resend(conn, auditor.account, auditor.livemode, event)
        await queries.store.durability.confirm()
        if not count:
            raise SettingError(
                f"nobody listens to {auditor.account} with the Stripe CLI; name an endpoint: --endpoint we_…"
            )
        return count
    send, _ = await retry_event(call, queries)
    async with queries.pool.connection() as conn:
        async with conn.transaction():
            await send(conn)
        await queries.store.durability.confirm()
        if (await read_switch(conn)).list_off_reasons("on"):
            print_notice("webhooks are off, so it waits: ledger webhooks status")
    return 0

"""`ledger listen`: prints the Events of an account as they come, and forwards them to a program."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.cli.groups import JsonOption, format_examples
from ledger.domain.webhook_urls import check_url
from ledger.errors import InvalidParameter, SettingError


def add_listen_command(group: typer.Typer) -> None:
    """Add `listen`."""

    @group.command(
        epilog=format_examples(
            "ledger listen --forward-to http://127.0.0.1:3000/webhooks",
            "ledger listen --events 'charge.dispute.*,charge.refunded' --json | jq .id",
            "ledger listen --thin --events v1.charge.captured --forward-to 3000/notifications",
            "ledger listen --print-secret",
        )
    )
    def listen(
        forward_to: Annotated[
            str | None, typer.Option(help="POST each Event to this URL, signed; a port alone is localhost.")
        ] = None,
        events: Annotated[
            str | None, typer.Option(help="Only these types: names and patterns, separated by commas.")
        ] = None,
        thin: Annotated[
            bool, typer.Option("--thin", help="Thin events instead: what happened to which object.")
        ] = False,
        account: Annotated[
            str | None, typer.Option("--account", help="The account; optional if there is only one.")
        ] = None,
        live: Annotated[bool, typer.Option("--live", help="Live mode instead of test mode.")] = False,
        print_secret: Annotated[
            bool, typer.Option("--print-secret", help="Print the signing secret, and exit.")
        ] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Print Events as they come, until Ctrl-C.

        Those of the account, and of accounts connected to it, from now on; it goes on over a restart of the
        service. The signing secret stays the same for an account and mode. With --json, each line is one
        Event as the API shows it, or the outcome of a POST."""
        from ledger.cli.events import listener

        url = None if forward_to is None else _complete_url(forward_to)
        patterns = [name.strip() for name in (events or "").split(",") if name.strip()]
        if events is not None and not patterns:
            raise SettingError("--events: name at least one type, or leave it out for all")
        if print_secret:
            listener.print_secret(account, livemode=live, as_json=as_json)
        else:
            listener.listen(account, patterns, url, thin=thin, livemode=live, as_json=as_json)


def _complete_url(text: str) -> str:
    """The URL that `text` means: `3000/hooks` and `localhost:3000/hooks` are complete but for what is clear.
    Raises SettingError, which does not repeat it: it may have a token in it."""
    url = f"localhost:{text}" if text.partition("/")[0].isdecimal() else text
    url = url if "://" in url else f"http://{url}"
    try:
        check_url(url, livemode=False)
    except InvalidParameter as error:
        raise SettingError(f"--forward-to: {error.message}") from None
    return url

"""`ledger feed read`: the feed from the database, for operators."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.cli.groups import format_examples
from ledger.cli.shell import open_deployment

if TYPE_CHECKING:
    from ledger.cli.shell import Deployment
    from ledger.feed.filters import FeedFilter

POLL_SECONDS = 1.0


def add_read_command(group: typer.Typer) -> None:
    """Add `read`."""

    @group.command(
        "read",
        epilog=format_examples(
            "ledger feed read --after 4700 --limit 10",
            "ledger feed read --type 'dispute.*' --follow | jq -c '[.position, .type, .object]'",
        ),
    )
    def read(
        after: Annotated[int, typer.Option(min=0, help="Items after this position.")] = 0,
        types: Annotated[
            list[str] | None,
            typer.Option("--type", help="A type of recorded event, or 'dispute.*'; repeat it for several."),
        ] = None,
        account: Annotated[str | None, typer.Option(help="Only items of this account.")] = None,
        object_id: Annotated[str | None, typer.Option("--object", help="Only items of this object.")] = None,
        limit: Annotated[int | None, typer.Option(min=1, help="At most so many items.")] = None,
        follow: Annotated[
            bool, typer.Option("--follow", help="And new ones as they come, until Ctrl-C.")
        ] = False,
    ) -> None:
        """Print the feed as NDJSON, one item a line.

        All accounts and modes, in the order of positions, without personal data: as GET /internal/v1/feed
        shows it to a key with the scope ledger_feed."""
        from ledger.feed.filters import FeedFilter
        from ledger.wire.topics import expand_types

        shown = FeedFilter(account=account, topics=expand_types(types or (), param="type"), stream=object_id)
        with open_deployment() as deployment:
            _run(deployment, shown, after, limit, follow=follow)


def _run(deployment: Deployment, shown: FeedFilter, after: int, limit: int | None, *, follow: bool) -> None:
    import uvloop

    from ledger.cli.shell import end_at_closed_output, run_until_stopped

    async def run() -> None:
        await run_until_stopped([_print_items(deployment, shown, after, limit, follow=follow)])

    with end_at_closed_output():
        uvloop.run(run())


async def _print_items(
    deployment: Deployment, shown: FeedFilter, after: int, limit: int | None, *, follow: bool
) -> None:
    """Print the items up to the end of the log as it is now; with `follow`, without end. Raises SettingError
    and Unavailable."""
    from ledger.cli.feed.source import open_source
    from ledger.cli.shell import choose_account
    from ledger.errors import SettingError
    from ledger.feed.source import READ_AT_ONCE
    from ledger.postgres.connections import open_connection

    if shown.account is not None:
        async with open_connection(deployment.dsn, "ledger_api", name="cli") as conn:
            await choose_account(conn, shown.account)
    async with open_source(deployment) as source:
        head = await source.read_head()
        if after > head.position:
            raise SettingError(f"--after: position {after} is in the future: the log ends at {head.position}")
        position, left, upto = after, limit, head.durable
        while left != 0:
            if position >= upto:
                if not follow:
                    return
                await source.wait_past(position, timeout_seconds=POLL_SECONDS)
                upto = (await source.read_head()).durable
                continue
            block = await source.read_block(position, min(upto, position + READ_AT_ONCE))
            passing: Sequence[int] = shown.select(block, position, block.last)
            if left is not None:
                passing = passing[:left]
                left -= len(passing)
            position = block.last
            if passing:
                sys.stdout.buffer.write(block.join_lines(passing))
                sys.stdout.buffer.flush()

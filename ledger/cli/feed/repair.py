"""`ledger feed repair` and `ledger feed check`: make a stream again from the log, and compare the two."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ledger.cli.feed.options import (
    PREFIX_DEFAULT,
    STREAM_DEFAULT,
    CredsOption,
    NatsOption,
    PrefixOption,
    StreamOption,
    check_names,
    choose_address,
)
from ledger.cli.groups import JsonOption, YesOption, format_examples, print_json, require_consent
from ledger.cli.shell import format_count, open_deployment
from ledger.errors import LedgerError

if TYPE_CHECKING:
    from ledger.cli.shell import Deployment
    from ledger.feed.jetstream.connection import NatsAddress
    from ledger.feed.jetstream.repair import RepairPlan
    from ledger.feed.jetstream.stream import Stream
    from ledger.feed.source import LogSource

Result = TypeVar("Result")


def add_repair_commands(group: typer.Typer) -> None:
    """Add `check` and `repair`."""
    _add_check_command(group)
    _add_repair_command(group)


def _add_check_command(group: typer.Typer) -> None:
    @group.command(
        "check",
        epilog=format_examples(
            "ledger feed check --nats nats://127.0.0.1:4222", "ledger feed check --stream LEDGER --json"
        ),
    )
    def check(
        nats: NatsOption = None,
        creds: CredsOption = None,
        stream: StreamOption = STREAM_DEFAULT,
        prefix: PrefixOption = PREFIX_DEFAULT,
        as_json: JsonOption = False,
    ) -> None:
        """Compare a stream of NATS JetStream with the log.

        Looks at each message that the stream holds, and changes nothing. Exits with 1 at a difference."""
        import uvloop

        from ledger.feed.jetstream.comparison import describe_difference, find_difference, read_checked

        check_names(stream, prefix)

        async def run(stream_: Stream, source: LogSource) -> dict[str, Any]:
            state = (await read_checked(stream_, prefix)).state
            head = (await source.read_head()).position
            last = min(state.last_seq, head)
            difference = await find_difference(stream_, source, state.begins_at, last)
            text = None if difference is None else describe_difference(stream, difference)
            if text is None and state.last_seq > head:
                text = f"stream {stream} has position {state.last_seq}, and the log ends at {head}"
            return {
                "stream": stream,
                "first": state.begins_at,
                "last": state.last_seq,
                "head": head,
                "difference": text,
            }

        with open_deployment() as deployment:
            address = choose_address(deployment.settings, nats, creds)
            found = uvloop.run(_run(deployment, address, stream, run))
        if as_json:
            print_json(found)
        elif found["difference"] is None:
            behind = format_count(found["head"] - found["last"], "event")
            count = format_count(found["last"] - found["first"] + 1, "message")
            print(f"Stream {stream}: {count} from {found['first']} to {found['last']}, all as in the log.")
            print(f"The log is {behind} ahead.")
        else:
            print(f"ledger: {found['difference']}", file=sys.stderr)
        if found["difference"] is not None:
            raise typer.Exit(1)


def _add_repair_command(group: typer.Typer) -> None:
    @group.command(
        "repair",
        epilog=format_examples(
            "ledger feed repair --nats nats://127.0.0.1:4222",
            "ledger feed repair --from 1000000 --yes --json",
        ),
    )
    def repair(
        nats: NatsOption = None,
        creds: CredsOption = None,
        stream: StreamOption = STREAM_DEFAULT,
        prefix: PrefixOption = PREFIX_DEFAULT,
        first: Annotated[
            int | None,
            typer.Option("--from", min=1, help="Position to begin at; default: where the stream begins."),
        ] = None,
        yes: YesOption = False,
        as_json: JsonOption = False,
    ) -> None:
        """Make a stream again from the log, from any position.

        The stream is deleted and made again with its settings, and its events are published again. Its
        durable consumers are made again too, and go on at the position where they were. It says what it will
        do, and asks first."""
        import uvloop

        check_names(stream, prefix)
        with open_deployment() as deployment:
            address = choose_address(deployment.settings, nats, creds)
            plan = uvloop.run(_run(deployment, address, stream, partial(_plan, first)))
            require_consent("\n".join(plan.describe()), yes=yes)
            done = uvloop.run(
                _run(deployment, address, stream, partial(_repair, address, prefix, plan.first))
            )
        if as_json:
            print_json(done)
        else:
            print(f"Stream {stream} has all positions from {done['first']} to {done['last']}.")


async def _plan(first: int | None, stream: Stream, source: LogSource) -> RepairPlan:
    from ledger.feed.jetstream.repair import plan_repair

    return await plan_repair(stream, source, first)


async def _repair(
    address: NatsAddress, prefix: str, first: int, stream: Stream, source: LogSource
) -> dict[str, Any]:
    from ledger.feed.jetstream.publisher import Publisher, StreamTarget
    from ledger.feed.jetstream.repair import remake_consumers, remake_stream

    plan = await _plan(first, stream, source)  # anew: consumers have read on while somebody was asked
    for each in plan.consumers:  # nothing else has them if this process ends half-way
        print(f"consumer {each.consumer.name}: {json.dumps(each.consumer.config)}", file=sys.stderr)
    await remake_stream(stream, plan, prefix)
    publisher = Publisher(source, address, StreamTarget(stream.name, prefix, plan.first))
    await publisher.publish_upto(max(plan.upto, plan.read_upto))
    await remake_consumers(stream, plan)
    return plan.to_json()


async def _run(
    deployment: Deployment,
    address: NatsAddress,
    name: str,
    action: Callable[[Stream, LogSource], Awaitable[Result]],
) -> Result:
    from ledger.cli.feed.source import open_source
    from ledger.feed.jetstream.stream import Stream

    async with open_source(deployment) as source, _open_client(address) as client:
        return await action(Stream(client, name), source)


@asynccontextmanager
async def _open_client(address: NatsAddress) -> AsyncIterator[Any]:
    from ledger.feed.jetstream.connection import close, connect

    client = await connect(address, lambda: None)
    try:
        yield client
    except TimeoutError as error:
        raise LedgerError("NATS does not answer in time") from error
    finally:
        await close(client)

"""`ledger projections …`: what an operator does to the read models from a shell.

On a terminal a rebuild shows its progress; piped, plain lines; with --json, one JSON document a line. It
ends with status 0 when what was asked for is so, else 1 and the reason on standard error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from ledger.cli.shell import print_table
from ledger.errors import SettingError
from ledger.store.codec import Codec
from projections.engine import checkpoints, registry
from projections.engine.registry import PROJECTIONS_BY_NAME, GenerationStatus
from projections.operate import rebuild_cli
from projections.operate.progress import render_json, render_line
from projections.operate.shell import (
    AllOption,
    CommandContext,
    JsonOption,
    NamesArgument,
    ReasonOption,
    get_operator,
    get_projections,
    run,
)
from projections.rebuild import records, verification
from projections.rebuild.records import Rebuild
from projections.rebuild.verification import KEYS_SHOWN_MAX, Verification

PARKED_SHOWN_MAX = 20


def build_group() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(
        help="The read models and the Event feed.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
    )
    _add_commands(group)
    rebuild_cli.add_commands(group)
    return group


def _add_commands(group: typer.Typer) -> None:
    @group.command()
    def status(as_json: JsonOption = False) -> None:
        """Where each projection stands against the log."""
        statuses, open_rebuilds = run(_load_status)
        if as_json:
            names = sorted({status.lag.projection for status in statuses} | set(PROJECTIONS_BY_NAME))
            data = [registry.describe_projection(name, statuses) for name in names]
            rebuilds_json = [render_json(rebuild, size) for rebuild, size in open_rebuilds]
            print(json.dumps({"data": data, "rebuilds": rebuilds_json}, indent=2))
            return
        rows = [
            (
                status.lag.projection,
                status.lag.generation,
                status.state,
                status.lag.position,
                status.lag.events,
                f"{status.lag.seconds:.1f}",
                _format_rows(status),
            )
            for status in statuses
        ]
        title = ("projection", "generation", "state", "checkpoint", "lag (events)", "lag (s)", "rows")
        print_table(title, rows)
        for line in [*_format_stalled(statuses), *_format_parked(statuses), *_format_rebuilds(open_rebuilds)]:
            print(line)

    @group.command()
    def verify(
        names: NamesArgument = None,
        all_projections: AllOption = False,
        sample: Annotated[int | None, typer.Option(help="Only so many streams, chosen by chance.")] = None,
        as_json: JsonOption = False,
    ) -> None:
        """Replay the log and compare with the live rows at one position; exit 1 if any differ or a view
        could not be checked."""
        projections = get_projections(names, all_projections or not names)
        if sample is not None and sample < 1:
            raise SettingError("--sample: must be 1 or more streams")

        async def replay_and_compare(context: CommandContext) -> list[Verification]:
            codec = Codec(context.key)
            return await verification.verify(context.dsn, codec, context.clock, projections, sample=sample)

        results = run(replay_and_compare)
        if as_json:
            print(json.dumps([asdict(result) for result in results], indent=2))
        else:
            print_table(
                ("projection", "generation", "position", "rows", "differing", "streams left out"),
                [
                    (
                        result.projection,
                        result.generation,
                        result.position,
                        result.rows,
                        result.differing,
                        result.parked,
                    )
                    for result in results
                    if result.error is None
                ],
            )
            for result in results:
                if result.error is not None:
                    print(f"{result.projection}: not checked: {result.error}")
                elif sample is not None and not result.rows:
                    print(f"{result.projection}: nothing was looked at, no row was found")
                for key in result.keys[:KEYS_SHOWN_MAX]:
                    print(f"{result.projection}: {key} differs")
            for name in {projection.name for projection in projections} - {
                result.projection for result in results
            }:
                print(f"{name}: not checked, it is not live in the shape that this release makes")
        if any(result.differing or result.error for result in results):
            raise typer.Exit(1)

    @group.command()
    def retry(
        projection: Annotated[str, typer.Argument(help="The projection that leaves the stream out.")],
        stream: Annotated[str, typer.Argument(help="The stream: the id of an object.")],
        reason: ReasonOption = "",
    ) -> None:
        """Apply what was left out of a parked stream, in order; exit 1 if any of it is still left out."""
        get_projections([projection], False)

        async def retry_stream(context: CommandContext) -> tuple[bool, list[int]]:
            engine = context.engine()
            try:
                is_healed = await engine.retry(projection, stream, get_operator(reason))
            finally:
                await engine.close()
            return is_healed, [
                *await checkpoints.find_generations_with_parked_stream(context.conn, projection, stream)
            ]

        is_healed, still_parked = run(retry_stream)
        if not is_healed:
            raise SettingError(f"{projection} had to leave {stream} out again: its handler still raises")
        if still_parked:
            raise SettingError(
                f"generation {still_parked[-1]} of {projection}, still being filled, leaves "
                f"{stream} out yet, no "
                "other does: retry it when that catches up"
            )
        print(f"{projection} leaves nothing of {stream} out.")


async def _load_status(
    context: CommandContext,
) -> tuple[list[GenerationStatus], list[tuple[Rebuild, int | None]]]:
    """Every generation, and the rebuilds that are not over with the bytes they take."""
    open_rebuilds = [
        await records.load(context.conn, rebuild_id) for rebuild_id in await records.list_open(context.conn)
    ]
    sizes = [(rebuild, await records.load_size_bytes(context.conn, rebuild)) for rebuild in open_rebuilds]
    return await registry.load_statuses(context.conn, now=context.clock.now()), sizes


def _format_rows(status: GenerationStatus) -> str:
    lag = status.lag
    stalled = "stands still" if status.stalled else ""
    parked = f"{lag.parked} {'stream' if lag.parked == 1 else 'streams'} left out" if lag.parked else ""
    differing = f"{lag.differing} found to differ" if lag.differing else ""
    return ", ".join(filter(None, [stalled, parked, differing])) or "complete"


def _format_stalled(statuses: Sequence[GenerationStatus]) -> list[str]:
    """What nobody moves, and where it is told why."""
    labels = ", ".join(
        f"{status.lag.projection}_g{status.lag.generation}" for status in statuses if status.stalled
    )
    return [f"standing still: {labels}; no worker runs, or it logs why: … cannot go on: …"] if labels else []


def _format_parked(statuses: Sequence[GenerationStatus]) -> list[str]:
    """What is parked, and the command that mends it."""
    lines = [
        f"{status.lag.projection} {status.lag.generation} leaves out {parking.stream} from "
        f"{parking.position}: "
        f"{parking.error}; mended? ledger projections retry {status.lag.projection} {parking.stream}"
        for status in statuses
        for parking in status.parked
    ]
    more = len(lines) - PARKED_SHOWN_MAX
    return lines[:PARKED_SHOWN_MAX] + ([f"and {more} more: --json has all"] if more > 0 else [])


def _format_rebuilds(open_rebuilds: Sequence[tuple[Rebuild, int | None]]) -> list[str]:
    lines = []
    for rebuild, size in open_rebuilds:
        first = rebuild.builds[0].projection
        lines.append(render_line(rebuild, size))
        if rebuild.needs_driver:
            lines.append(f"  nobody is at work on it: start a worker, or: ledger projections resume {first}")
        elif rebuild.paused:
            lines.append(f"  go on with: ledger projections resume {first}")
        elif rebuild.state == "differing":
            lines.append(f"  look at it: ledger projections diff {first}")
    return lines

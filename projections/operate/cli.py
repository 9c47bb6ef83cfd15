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

from ledger.cli import app
from ledger.errors import SettingError
from ledger.store.codec import Codec
from projections.engine import checkpoints, registry
from projections.engine.registry import BY_NAME, Status
from projections.operate import rebuild_cli
from projections.operate.progress import plain, told
from projections.operate.shell import All, Json, Names, Reason, Shell, operator_of, projections_of, run
from projections.rebuild import records
from projections.rebuild.records import Rebuild
from projections.rebuild.verification import KEYS_SHOWN_MAX, Verified
from projections.rebuild.verification import verify as verify_projections

PARKED_SHOWN_MAX = 20


def build() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help="The read models and the Event feed.", no_args_is_help=True)
    _add_looking(group)
    rebuild_cli.add(group)
    return group


def _add_looking(group: typer.Typer) -> None:
    @group.command()
    def status(as_json: Json = False) -> None:
        """Where each projection stands against the log."""
        standing, under_way = run(_standing)
        if as_json:
            names = sorted({each.lag.projection for each in standing} | set(BY_NAME))
            data = [registry.described(name, standing) for name in names]
            rebuilding = [told(found, size) for found, size in under_way]
            print(json.dumps({"data": data, "rebuilds": rebuilding}, indent=2))
            return
        rows = [
            (
                each.lag.projection,
                each.lag.generation,
                each.state,
                each.lag.position,
                each.lag.events,
                f"{each.lag.seconds:.1f}",
                _rows_of(each),
            )
            for each in standing
        ]
        title = ("projection", "generation", "state", "checkpoint", "lag (events)", "lag (s)", "rows")
        app.print_table(title, rows)
        for line in [*_standing_still(standing), *_left_out(standing), *_rebuilding(under_way)]:
            print(line)

    @group.command()
    def verify(
        names: Names = None,
        everything: All = False,
        sample: Annotated[int | None, typer.Option(help="Only so many streams, chosen by chance.")] = None,
        as_json: Json = False,
    ) -> None:
        """Replay the log and compare with the live rows at one position; exit 1 if any differ or a view
        could not be checked."""
        chosen = projections_of(names, everything or not names)
        if sample is not None and sample < 1:
            raise SettingError("--sample: must be 1 or more streams")

        async def check(shell: Shell) -> list[Verified]:
            codec = Codec(shell.key)
            return await verify_projections(shell.dsn, codec, shell.clock, chosen, sample=sample)

        verified = run(check)
        if as_json:
            print(json.dumps([asdict(each) for each in verified], indent=2))
        else:
            app.print_table(
                ("projection", "generation", "position", "rows", "differing", "streams left out"),
                [
                    (each.projection, each.generation, each.position, each.rows, each.differing, each.parked)
                    for each in verified
                    if each.error is None
                ],
            )
            for each in verified:
                if each.error is not None:
                    print(f"{each.projection}: not checked: {each.error}")
                elif sample is not None and not each.rows:
                    print(f"{each.projection}: nothing was looked at, no row was found")
                for key in each.keys[:KEYS_SHOWN_MAX]:
                    print(f"{each.projection}: {key} differs")
            for name in {each.name for each in chosen} - {each.projection for each in verified}:
                print(f"{name}: not checked, it is not live in the shape that this release makes")
        if any(each.differing or each.error for each in verified):
            raise typer.Exit(1)

    @group.command()
    def retry(
        projection: Annotated[str, typer.Argument(help="The projection that leaves the stream out.")],
        stream: Annotated[str, typer.Argument(help="The stream: the id of an object.")],
        reason: Reason = "",
    ) -> None:
        """Apply what was left out of a parked stream, in order; exit 1 if any of it is still left out."""
        projections_of([projection], False)

        async def again(shell: Shell) -> tuple[bool, list[int]]:
            engine = shell.engine()
            try:
                healed = await engine.retry(projection, stream, operator_of(reason))
            finally:
                await engine.close()
            return healed, [*await checkpoints.generations_parking(shell.conn, projection, stream)]

        healed, left = run(again)
        if not healed:
            raise SettingError(f"{projection} had to leave {stream} out again: its handler still raises")
        if left:
            raise SettingError(
                f"generation {left[-1]} of {projection}, still being filled, leaves {stream} out yet, no "
                "other does: retry it when that catches up"
            )
        print(f"{projection} leaves nothing of {stream} out.")


async def _standing(shell: Shell) -> tuple[list[Status], list[tuple[Rebuild, int | None]]]:
    """Every generation, and the rebuilds that are not over with the bytes they take."""
    under_way = [await records.load(shell.conn, each) for each in await records.open_ones(shell.conn)]
    sizes = [(found, await records.size(shell.conn, found)) for found in under_way]
    return await registry.status(shell.conn, now=shell.clock.now()), sizes


def _rows_of(status: Status) -> str:
    lag = status.lag
    still = "stands still" if status.still else ""
    parked = f"{lag.parked} {'stream' if lag.parked == 1 else 'streams'} left out" if lag.parked else ""
    differing = f"{lag.differing} found to differ" if lag.differing else ""
    return ", ".join(filter(None, [still, parked, differing])) or "complete"


def _standing_still(standing: Sequence[Status]) -> list[str]:
    """What nobody moves, and where it is told why."""
    labels = ", ".join(f"{each.lag.projection}_g{each.lag.generation}" for each in standing if each.still)
    return [f"standing still: {labels}; no worker runs, or it logs why: … cannot go on: …"] if labels else []


def _left_out(standing: Sequence[Status]) -> list[str]:
    """What is parked, and the command that mends it."""
    lines = [
        f"{each.lag.projection} {each.lag.generation} leaves out {parking.stream} from {parking.position}: "
        f"{parking.error}; mended? ledger projections retry {each.lag.projection} {parking.stream}"
        for each in standing
        for parking in each.parked
    ]
    more = len(lines) - PARKED_SHOWN_MAX
    return lines[:PARKED_SHOWN_MAX] + ([f"and {more} more: --json has all"] if more > 0 else [])


def _rebuilding(under_way: Sequence[tuple[Rebuild, int | None]]) -> list[str]:
    lines = []
    for found, size in under_way:
        first = found.builds[0].projection
        lines.append(plain(found, size))
        if found.forsaken:
            lines.append(f"  nobody is at work on it: start a worker, or: ledger projections resume {first}")
        elif found.paused:
            lines.append(f"  go on with: ledger projections resume {first}")
        elif found.state == "differing":
            lines.append(f"  look at it: ledger projections diff {first}")
    return lines

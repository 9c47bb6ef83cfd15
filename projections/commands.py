"""`ledger projections …`: what an operator does to the read models from a shell.

On a terminal a rebuild shows its progress; piped, plain lines; with --json, one JSON document a line. It
ends with status 0 when what was asked for is so, else 1 and the reason on standard error.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ledger import cli
from ledger.errors import SettingError
from ledger.processes import end_with_parent
from ledger.store.codec import Codec
from projections import checkpoints, filling, rebuilds, registry, switching, verifying
from projections.progress import plain, told
from projections.projection import described
from projections.rebuilds import WORKERS_MAX, Rebuild
from projections.registry import BY_NAME, PROJECTIONS, Status
from projections.shell import Shell, existing, number_of, operator_of, projections_of, run
from projections.watching import see_through
from projections.workers import STOPPED

PARKED_SHOWN_MAX = 20
GARBAGE_THRESHOLD = 1_000_000
"""Objects that a worker of a rebuild makes before it looks for cycles among them; a page makes fewer."""

Name = Annotated[str, typer.Argument(help="The projection.")]
Names = Annotated[list[str] | None, typer.Argument(help="The projections; or --all.")]
All = Annotated[bool, typer.Option("--all", help="Every projection of this release.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Reason = Annotated[str, typer.Option(help="Why: kept on record.")]


def build() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(help="The read models and the Event feed.", no_args_is_help=True)
    _add_looking(group)
    _add_rebuilding(group)
    _add_switching(group)
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
        cli.print_table(title, rows)
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

        async def check(shell: Shell) -> list[verifying.Verified]:
            codec = Codec(shell.key)
            return await verifying.verify(shell.dsn, codec, shell.clock, chosen, sample=sample)

        verified = run(check)
        if as_json:
            print(json.dumps([asdict(each) for each in verified], indent=2))
        else:
            cli.print_table(
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
                for key in each.keys[: verifying.KEYS_SHOWN_MAX]:
                    print(f"{each.projection}: {key} differs")
            for name in {each.name for each in chosen} - {each.projection for each in verified}:
                print(f"{name}: not checked, it is not live in the shape that this release makes")
        if any(each.differing or each.error for each in verified):
            raise typer.Exit(1)


def _add_rebuilding(group: typer.Typer) -> None:
    @group.command()
    def rebuild(
        names: Names = None,
        everything: All = False,
        workers: Annotated[int, typer.Option(help="Processes that fill.")] = 1,
        accept_differences: Annotated[
            bool, typer.Option("--accept-differences", help="Switch also if rows differ from the live ones.")
        ] = False,
        reason: Reason = "",
        as_json: Json = False,
    ) -> None:
        """Build anew beside what is live, compare, and switch to it if it says the same."""
        chosen = projections_of(names, everything)
        if not 1 <= workers <= WORKERS_MAX:
            raise SettingError(f"--workers: must be 1 to {WORKERS_MAX}")
        _say_why(accept_differences, reason)

        async def begin(shell: Shell) -> int:
            return await rebuilds.begin(
                shell.conn,
                chosen,
                operator_of(reason),
                workers=workers,
                accept_differences=accept_differences,
            )

        see_through(begin, chosen[0].name, as_json=as_json)

    @group.command()
    def resume(name: Name, reason: Reason = "", as_json: Json = False) -> None:
        """Go on with a rebuild that was paused, failed, or lost its process."""

        async def go_on(shell: Shell) -> int:
            number = await number_of(shell, name)
            await rebuilds.resume(shell.conn, number, operator_of(reason))
            return number

        see_through(go_on, name, as_json=as_json)

    @group.command()
    def pause(name: Name, reason: Reason = "") -> None:
        """Have a rebuild stop; nothing it has done is lost."""

        async def stop(shell: Shell) -> None:
            await rebuilds.pause(shell.conn, await number_of(shell, name), operator_of(reason))

        run(stop)
        print(f"The rebuild of {name} is paused: ledger projections resume {name}")

    @group.command()
    def cancel(name: Name, reason: Reason = "") -> None:
        """End a rebuild and drop what it made."""

        async def end(shell: Shell) -> None:
            await rebuilds.cancel(shell.conn, await number_of(shell, name), operator_of(reason))

        run(end)
        print(f"The rebuild of {name} is cancelled; what is live has not changed.")

    @group.command(hidden=True)
    def fill(rebuild: int, share: int) -> None:
        """One worker of a rebuild; `rebuild` starts them."""
        end_with_parent()
        # A page leaves no cycles behind: looking for them again and again would be a fifth of the work.
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD)

        async def one(shell: Shell) -> bool:
            codec = Codec(shell.key)
            return await filling.fill(shell.dsn, codec, shell.clock, PROJECTIONS, rebuild, share)

        try:
            done = run(one)
        except Exception as error:  # the edge of the process: an error's text may quote personal data
            sys.exit(described(error))
        raise typer.Exit(0 if done else STOPPED)


def _add_switching(group: typer.Typer) -> None:
    @group.command()
    def switch(
        name: Name,
        generation: Annotated[int | None, typer.Option(help="To which; else to what was rebuilt.")] = None,
        accept_differences: Annotated[
            bool, typer.Option("--accept-differences", help="After looking at them.")
        ] = False,
        reason: Reason = "",
    ) -> None:
        """Make another generation the one that readers see; of a rebuild that differs, with all its views."""

        async def to(shell: Shell) -> None:
            await existing(shell, name)
            if generation is not None:
                await switching.switch(shell.conn, {name: generation}, operator_of(reason))
                return
            number = await number_of(shell, name)
            if not accept_differences:
                raise SettingError(
                    f"rebuild {number} of {name} differs from what is live: look at `ledger projections diff "
                    f"{name}`, then --accept-differences --reason WHY, or `ledger projections cancel {name}`"
                )
            _say_why(accept_differences, reason)
            await rebuilds.accept(shell.conn, number, operator_of(reason))

        run(to)
        print(f"{name} is switched; back again: ledger projections rollback {name}")

    @group.command()
    def diff(name: Name, as_json: Json = False) -> None:
        """The first rows in which the last rebuild of a view differed from what was live."""

        async def last(shell: Shell) -> dict[str, Any]:
            await existing(shell, name)
            return await switching.last_comparison(shell.conn, name)

        compared = run(last)
        if as_json:
            print(json.dumps(compared, indent=2))
            return
        print(f"{compared['rows']} rows, {compared['live_rows']} live, at position {compared['position']}")
        for added in compared["added"]:
            print(f"{added}: a new column, not compared")
        for difference in compared["differences"]:
            print(difference["key"])
            live, other = difference["live"] or {}, difference["other"] or {}
            for path in {**live, **other}:
                print(f"  {path}: {_json(live.get(path))} → {_json(other.get(path))}")

    @group.command()
    def rollback(name: Name, reason: Reason = "") -> None:
        """Make the generation live again that was before the last switch."""

        async def back(shell: Shell) -> int:
            await existing(shell, name)
            return await switching.rollback(shell.conn, name, operator_of(reason))

        generation = run(back)
        print(f"Generation {generation} of {name} is live again.")

    @group.command()
    def retire(
        name: Name,
        generation: Annotated[
            int | None, typer.Option(help="Which; else all older than the live one.")
        ] = None,
        removed: Annotated[
            bool, typer.Option("--removed", help="The view is gone from every release: drop all of it.")
        ] = False,
        reason: Reason = "",
    ) -> None:
        """Drop generations that nobody needs any more, not even to go back to."""

        async def drop(shell: Shell) -> list[int]:
            await existing(shell, name)
            operator = operator_of(reason)
            if removed:
                if name in BY_NAME:
                    raise SettingError(f"{name} is a projection of this release")
                return await switching.remove(shell.conn, name, operator)
            which = [generation] if generation else await switching.older(shell.conn, name)
            for each in which:
                await switching.retire(shell.conn, name, each, operator)
            return which

        dropped = run(drop)
        print(f"Dropped of {name}: " + (", ".join(map(str, dropped)) or "nothing"))

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
    under_way = [await rebuilds.load(shell.conn, each) for each in await rebuilds.open_ones(shell.conn)]
    sizes = [(found, await rebuilds.size(shell.conn, found)) for found in under_way]
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


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _say_why(accept_differences: bool, reason: str) -> None:
    if accept_differences and not reason.strip():
        raise SettingError("--reason: say why the differences are accepted; it is kept on record")

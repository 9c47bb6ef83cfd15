"""The commands that rebuild, switch, go back and retire.

`rebuild` and `resume` see a rebuild through to its end, `watching`; all others do one thing and say in a line
what comes next.
"""

from __future__ import annotations

import gc
import json
import sys
from typing import Annotated, Any

import typer

from ledger.cli.processes import end_with_parent
from ledger.errors import SettingError
from ledger.store.codec import Codec
from projections.engine.assignment import others
from projections.engine.registry import BY_NAME, PROJECTIONS
from projections.operate.shell import (
    All,
    Json,
    Name,
    Names,
    Reason,
    Shell,
    existing,
    number_of,
    operator_of,
    projections_of,
    run,
)
from projections.operate.watch import see_through
from projections.projection import described
from projections.rebuild import backfill, generations, promotion, records
from projections.rebuild.processes import STOPPED
from projections.rebuild.records import WORKERS_MAX

GARBAGE_THRESHOLD = 1_000_000
"""Objects that a worker of a rebuild makes before it looks for cycles among them; a page makes fewer."""


def add(group: typer.Typer) -> None:
    """Add them to the group of commands."""
    _add_rebuilding(group)
    _add_switching(group)


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
            return await records.begin(
                shell.conn,
                chosen,
                operator_of(reason),
                workers=workers,
                accept_differences=accept_differences,
            )

        see_through(begin, chosen[0].name, as_json=as_json)

    @group.command()
    def resume(name: Name, reason: Reason = "", as_json: Json = False) -> None:
        """Go on with a rebuild that was paused, failed, or lost its process; compare again if it differs."""

        async def go_on(shell: Shell) -> int:
            number = await number_of(shell, name)
            await records.resume(shell.conn, number, operator_of(reason))
            return number

        see_through(go_on, name, as_json=as_json)

    @group.command()
    def pause(name: Name, reason: Reason = "") -> None:
        """Have a rebuild stop; nothing it has done is lost."""

        async def stop(shell: Shell) -> None:
            await records.pause(shell.conn, await number_of(shell, name), operator_of(reason))

        run(stop)
        print(f"The rebuild of {name} is paused: ledger projections resume {name}")

    @group.command()
    def cancel(name: Name, reason: Reason = "") -> None:
        """End a rebuild and drop what it made."""

        async def end(shell: Shell) -> bool:
            return await records.cancel(shell.conn, await number_of(shell, name), operator_of(reason))

        dropped = run(end)
        later = "" if dropped else " A worker drops its table when whoever uses it has ended."
        print(f"The rebuild of {name} is cancelled; what is live has not changed.{later}")

    @group.command(hidden=True)
    def fill(rebuild: int, share: int) -> None:
        """One worker of a rebuild; `rebuild` starts them."""
        end_with_parent()
        # A page leaves no cycles behind: looking for them again and again would be a fifth of the work.
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD)

        async def one(shell: Shell) -> bool:
            codec = Codec(shell.key)
            return await backfill.fill(shell.dsn, codec, shell.clock, PROJECTIONS, rebuild, share)

        try:
            done = run(one)
        except Exception as error:  # the edge of the process: an error's text may quote personal data
            sys.exit(described(error.__cause__ or error))
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
        _check(generation)

        async def to(shell: Shell) -> None:
            await existing(shell, name)
            if generation is not None:
                await generations.switch(shell.conn, {name: generation}, operator_of(reason))
                return
            number = await number_of(shell, name)
            if not accept_differences:
                undecided = promotion.undecided(await records.load(shell.conn, number))
                raise SettingError(f"{undecided} ledger projections diff | switch | resume | cancel {name}")
            _say_why(accept_differences, reason)
            await promotion.accept(shell.conn, number, operator_of(reason))

        run(to)
        print(f"{name} is switched; back again: ledger projections rollback {name}")

    @group.command()
    def diff(name: Name, as_json: Json = False) -> None:
        """The first rows in which the last rebuild of a view differed from what was live."""

        async def last(shell: Shell) -> dict[str, Any]:
            await existing(shell, name)
            return await generations.last_comparison(shell.conn, name)

        compared = run(last)
        if as_json:
            print(json.dumps(compared, indent=2))
            return
        of = f"rebuild {compared['rebuild']}, compared at {compared['at']}"
        if not compared["compared"]:
            live = compared.get("live", "?")
            at = compared["live_position"]
            print(f"{of}: " + (
                "nothing was live to compare with" if at is None
                else f"not compared, generation {live}, which was live, stood still at {at}"
            ))  # fmt: skip
            return
        print(
            f"{of}: {compared['rows']} rows, {compared['live_rows']} live, at position {compared['position']}"
        )
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
            return await generations.rollback(shell.conn, name, operator_of(reason))

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
        _check(generation)
        if removed and not reason.strip():
            raise SettingError("--reason: say why the view is dropped; it is kept on record")

        async def drop(shell: Shell) -> list[int]:
            await existing(shell, name)
            operator = operator_of(reason)
            if removed:
                if name in BY_NAME:
                    raise SettingError(f"{name} is a projection of this release")
                shapes = {projection.name: projection.shape for projection in PROJECTIONS}
                if await others(shell.conn, shapes):
                    raise SettingError(
                        f"a worker of another release runs, which may have {name}: stop it first"
                    )
                return await generations.remove(shell.conn, name, operator)
            which = await generations.older(shell.conn, name) if generation is None else [generation]
            for each in which:
                await generations.retire(shell.conn, name, each, operator)
            return which

        dropped = run(drop)
        print(f"Dropped of {name}: " + (", ".join(map(str, dropped)) or "nothing"))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _say_why(accept_differences: bool, reason: str) -> None:
    if accept_differences and not reason.strip():
        raise SettingError("--reason: say why the differences are accepted; it is kept on record")


def _check(generation: int | None) -> None:
    if generation is not None and generation < 1:
        raise SettingError("--generation: must be 1 or more")

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

from ledger.cli.processes import exit_with_parent
from ledger.errors import SettingError
from ledger.store.codec import Codec
from projections.engine.assignment import is_other_release_running
from projections.operate.shell import (
    AllOption,
    CommandContext,
    JsonOption,
    NameArgument,
    NamesArgument,
    ReasonOption,
    get_active_rebuild_id,
    get_operator,
    get_projections,
    require_projection,
    run,
)
from projections.operate.watch import run_and_watch
from projections.projection import describe_error
from projections.read_models.catalog import PROJECTIONS, PROJECTIONS_BY_NAME
from projections.rebuild import backfill, generations, promotion, records
from projections.rebuild.processes import EXIT_STOPPED
from projections.rebuild.records import WORKERS_MAX

GC_THRESHOLD_OBJECTS = 1_000_000
"""Objects that a worker of a rebuild makes before it looks for cycles among them; a page makes fewer."""


def add_commands(group: typer.Typer) -> None:
    """Add them to the group of commands."""
    _add_rebuild_commands(group)
    _add_generation_commands(group)


def _add_rebuild_commands(group: typer.Typer) -> None:
    @group.command()
    def rebuild(
        names: NamesArgument = None,
        all_projections: AllOption = False,
        workers: Annotated[int, typer.Option(help="Processes that fill.")] = 1,
        accept_differences: Annotated[
            bool, typer.Option("--accept-differences", help="Switch also if rows differ from the live ones.")
        ] = False,
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Build anew beside what is live, compare, and switch to it if it says the same."""
        projections = get_projections(names, all_projections)
        if not 1 <= workers <= WORKERS_MAX:
            raise SettingError(f"--workers: must be 1 to {WORKERS_MAX}")
        _require_reason(accept_differences, reason)

        async def begin_rebuild(context: CommandContext) -> int:
            return await records.begin(
                context.conn,
                projections,
                get_operator(reason),
                workers=workers,
                accept_differences=accept_differences,
            )

        run_and_watch(begin_rebuild, projections[0].name, as_json=as_json)

    @group.command()
    def resume(name: NameArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
        """Go on with a rebuild that was paused, failed, or lost its process; compare again if it differs."""

        async def resume_rebuild(context: CommandContext) -> int:
            rebuild_id = await get_active_rebuild_id(context, name)
            await records.resume(context.conn, rebuild_id, get_operator(reason))
            return rebuild_id

        run_and_watch(resume_rebuild, name, as_json=as_json)

    @group.command()
    def pause(name: NameArgument, reason: ReasonOption = "") -> None:
        """Have a rebuild stop; nothing it has done is lost."""

        async def pause_rebuild(context: CommandContext) -> None:
            await records.pause(
                context.conn, await get_active_rebuild_id(context, name), get_operator(reason)
            )

        run(pause_rebuild)
        print(f"The rebuild of {name} is paused: ledger projections resume {name}")

    @group.command()
    def cancel(name: NameArgument, reason: ReasonOption = "") -> None:
        """End a rebuild and drop what it made."""

        async def cancel_rebuild(context: CommandContext) -> bool:
            return await records.cancel(
                context.conn, await get_active_rebuild_id(context, name), get_operator(reason)
            )

        dropped = run(cancel_rebuild)
        dropped_later = "" if dropped else " A worker drops its table when whoever uses it has ended."
        print(f"The rebuild of {name} is cancelled; what is live has not changed.{dropped_later}")

    @group.command(hidden=True)
    def fill(rebuild_id: int, shard: int) -> None:
        """One worker of a rebuild; `rebuild` starts them."""
        exit_with_parent()
        # A page leaves no cycles behind: looking for them again and again would be a fifth of the work.
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD_OBJECTS)

        async def run_backfill(context: CommandContext) -> bool:
            codec = Codec(context.key)
            return await backfill.backfill_shard(
                context.dsn, codec, context.clock, PROJECTIONS, rebuild_id, shard
            )

        try:
            done = run(run_backfill)
        except Exception as error:  # the edge of the process: an error's text may quote personal data
            sys.exit(describe_error(error.__cause__ or error))
        raise typer.Exit(0 if done else EXIT_STOPPED)


def _add_generation_commands(group: typer.Typer) -> None:
    @group.command()
    def switch(
        name: NameArgument,
        generation: Annotated[int | None, typer.Option(help="To which; else to what was rebuilt.")] = None,
        accept_differences: Annotated[
            bool, typer.Option("--accept-differences", help="After looking at them.")
        ] = False,
        reason: ReasonOption = "",
    ) -> None:
        """Make another generation the one that readers see; of a rebuild that differs, with all its views."""
        _check_generation(generation)

        async def switch_generation(context: CommandContext) -> None:
            await require_projection(context, name)
            if generation is not None:
                await generations.switch(context.conn, {name: generation}, get_operator(reason))
                return
            rebuild_id = await get_active_rebuild_id(context, name)
            if not accept_differences:
                explanation = promotion.explain_not_promoted(await records.load(context.conn, rebuild_id))
                raise SettingError(f"{explanation} ledger projections diff | switch | resume | cancel {name}")
            _require_reason(accept_differences, reason)
            await promotion.accept_differences(context.conn, rebuild_id, get_operator(reason))

        run(switch_generation)
        print(f"{name} is switched; back again: ledger projections rollback {name}")

    @group.command()
    def diff(name: NameArgument, as_json: JsonOption = False) -> None:
        """The first rows in which the last rebuild of a view differed from what was live."""

        async def load_comparison(context: CommandContext) -> dict[str, Any]:
            await require_projection(context, name)
            return await generations.load_last_comparison(context.conn, name)

        comparison = run(load_comparison)
        if as_json:
            print(json.dumps(comparison, indent=2))
            return
        heading = f"rebuild {comparison['rebuild']}, compared at {comparison['at']}"
        if not comparison["compared"]:
            live = comparison.get("live", "?")
            stalled_at = comparison["live_position"]
            print(f"{heading}: " + (
                "nothing was live to compare with" if stalled_at is None
                else f"not compared, generation {live}, which was live, stood still at {stalled_at}"
            ))  # fmt: skip
            return
        print(
            f"{heading}: {comparison['rows']} rows, {comparison['live_rows']} live, "
            f"at position {comparison['position']}"
        )
        for column in comparison["added"]:
            print(f"{column}: a new column, not compared")
        for difference in comparison["differences"]:
            print(difference["key"])
            live, other = difference["live"] or {}, difference["other"] or {}
            for path in {**live, **other}:
                print(f"  {path}: {_dump_json(live.get(path))} → {_dump_json(other.get(path))}")

    @group.command()
    def rollback(name: NameArgument, reason: ReasonOption = "") -> None:
        """Make the generation live again that was before the last switch."""

        async def roll_back(context: CommandContext) -> int:
            await require_projection(context, name)
            return await generations.roll_back(context.conn, name, get_operator(reason))

        generation = run(roll_back)
        print(f"Generation {generation} of {name} is live again.")

    @group.command()
    def retire(
        name: NameArgument,
        generation: Annotated[
            int | None, typer.Option(help="Which; else all older than the live one.")
        ] = None,
        removed: Annotated[
            bool, typer.Option("--removed", help="The view is gone from every release: drop all of it.")
        ] = False,
        reason: ReasonOption = "",
    ) -> None:
        """Drop generations that nobody needs any more, not even to go back to."""
        _check_generation(generation)
        if removed and not reason.strip():
            raise SettingError("--reason: say why the view is dropped; it is kept on record")

        async def drop_generations(context: CommandContext) -> list[int]:
            await require_projection(context, name)
            operator = get_operator(reason)
            if removed:
                if name in PROJECTIONS_BY_NAME:
                    raise SettingError(f"{name} is a projection of this release")
                shapes = {projection.name: projection.shape for projection in PROJECTIONS}
                if await is_other_release_running(context.conn, shapes):
                    raise SettingError(
                        f"a worker of another release runs, which may have {name}: stop it first"
                    )
                return await generations.remove_projection(context.conn, name, operator)
            retired = (
                await generations.list_older_generations(context.conn, name)
                if generation is None
                else [generation]
            )
            for old_generation in retired:
                await generations.retire(context.conn, name, old_generation, operator)
            return retired

        dropped = run(drop_generations)
        print(f"Dropped of {name}: " + (", ".join(map(str, dropped)) or "nothing"))


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _require_reason(accept_differences: bool, reason: str) -> None:
    if accept_differences and not reason.strip():
        raise SettingError("--reason: say why the differences are accepted; it is kept on record")


def _check_generation(generation: int | None) -> None:
    if generation is not None and generation < 1:
        raise SettingError("--generation: must be 1 or more")

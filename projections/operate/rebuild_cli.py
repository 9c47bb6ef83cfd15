"""The commands that rebuild, switch, roll back and retire.

`rebuild` and `resume` drive and show a rebuild until it ends or waits; every other command does one thing and
says in a line what comes next.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.filesize import decimal

from ledger.cli.groups import JsonOption, YesOption, format_examples, print_json, require_consent
from ledger.cli.service.processes import exit_with_parent
from ledger.cli.shell import format_count
from ledger.errors import SettingError
from ledger.logs import describe_error
from ledger.store.codec import Codec
from projections.engine.partitions import StoredGeneration
from projections.operate.shell import (
    AllOption,
    CommandContext,
    NameArgument,
    NamesArgument,
    ReasonOption,
    get_operator,
    run,
)
from projections.operate.watch import run_and_watch
from projections.read_models.catalog import PROJECTIONS
from projections.rebuild import backfill
from projections.rebuild.generations import preview_retirement
from projections.rebuild.processes import EXIT_STOPPED

GC_THRESHOLD_OBJECTS = 1_000_000
"""Objects that a backfill process creates between two garbage collections; a page creates fewer."""


def add_commands(group: typer.Typer) -> None:
    """Add them to the group of commands."""
    for command, examples in EXAMPLES.items():
        epilog = format_examples(*(f"ledger projections {example}" for example in examples))
        group.command(epilog=epilog)(command)
    group.command(hidden=True)(fill)


def rebuild(
    names: NamesArgument = None,
    all_projections: AllOption = False,
    workers: Annotated[int, typer.Option(help="Backfill processes.")] = 1,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Promote it even if rows differ from the live ones.")
    ] = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Rebuild projections beside the live ones.

    Compares the rows, and switches to the rebuilt ones if they are equal."""
    run_and_watch(
        lambda actions: actions.rebuild(
            get_operator(reason),
            names or [],
            all_projections=all_projections,
            workers=workers,
            accept_differences=accept_differences,
        ),
        as_json=as_json,
    )


def resume(name: NameArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Continue a rebuild that was paused, failed or lost its process.

    One with differences is compared again."""
    run_and_watch(lambda actions: actions.resume(get_operator(reason), name), as_json=as_json)


def pause(name: NameArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Pause a rebuild; its work is kept."""
    report = run(lambda context: context.actions.pause(get_operator(reason), name))
    if as_json:
        print_json(report.to_json())
        return
    print(f"The rebuild of {name} is paused. To continue: ledger projections resume {name}")


def cancel(name: NameArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """End a rebuild and drop its tables."""
    report = run(lambda context: context.actions.cancel(get_operator(reason), name))
    if as_json:
        print_json(report.to_json())
        return
    later = "" if report.size_bytes == 0 else " A worker will drop its tables once they are unlocked."
    print(f"The rebuild of {name} is cancelled; the live generation has not changed.{later}")


def fill(rebuild_id: int, shard: int) -> None:
    """Backfill one shard of a rebuild; the process that drives the rebuild starts this."""
    exit_with_parent()
    # A page leaves no garbage cycles: looking for them again and again would be a fifth of the work.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS)

    async def run_backfill(context: CommandContext) -> bool:
        codec = Codec(context.service_keys)
        return await backfill.backfill_shard(
            context.dsn, codec, context.clock, PROJECTIONS, rebuild_id, shard
        )

    try:
        done = run(run_backfill)
    except SettingError:
        raise
    except Exception as error:  # the driver reads this line, and an error's text may quote personal data
        sys.exit(describe_error(error.__cause__ or error))
    raise typer.Exit(0 if done else EXIT_STOPPED)


def switch(
    name: NameArgument,
    generation: Annotated[
        int | None, typer.Option(help="Generation to switch to; default: the rebuilt one.")
    ] = None,
    accept_differences: Annotated[
        bool,
        typer.Option("--accept-differences", help="Promote the rebuilt generation despite its differences."),
    ] = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Switch readers to another generation.

    A rebuild with differences is promoted with all its projections."""

    async def perform(context: CommandContext) -> dict[str, Any]:
        await context.actions.switch(
            get_operator(reason), name, generation=generation, accept_differences=accept_differences
        )
        return await context.actions.describe_projection(name)

    document = run(perform)
    if as_json:
        print_json(document)
        return
    print(f"{name} is switched. To go back: ledger projections rollback {name}")


def diff(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show rows in which the last rebuild differed from the live one.

    The first ones are kept."""
    comparison = run(lambda context: context.actions.load_diff(name))
    if as_json:
        print_json(comparison)
    else:
        _print_comparison(comparison)


def rollback(name: NameArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Switch back to the generation that was live before.

    Run it again to switch forward."""

    async def perform(context: CommandContext) -> tuple[int, dict[str, Any]]:
        generation = await context.actions.roll_back(get_operator(reason), name)
        return generation, await context.actions.describe_projection(name)

    generation, document = run(perform)
    if as_json:
        print_json(document)
        return
    print(f"Generation {generation} of {name} is live again.")


def retire(
    name: NameArgument,
    generation: Annotated[
        int | None, typer.Option(help="Generation to drop; default: all older than the live one.")
    ] = None,
    removed: Annotated[
        bool, typer.Option("--removed", help="Drop a projection that no release has any more.")
    ] = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop generations, after asking.

    They cannot be rolled back to."""
    if not yes:
        stored = run(
            lambda context: preview_retirement(context.conn, name, generation=generation, removed=removed)
        )
        if stored:
            require_consent(_describe_loss(name, stored), yes=yes)

    async def perform(context: CommandContext) -> tuple[list[int], dict[str, Any]]:
        dropped = await context.actions.retire(
            get_operator(reason), name, generation=generation, removed=removed
        )
        return dropped, await context.actions.describe_projection(name)

    dropped, document = run(perform)
    if as_json:
        print_json(document | {"dropped": dropped})
        return
    print(f"Dropped of {name}: " + (", ".join(map(str, dropped)) or "nothing"))


EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    rebuild: (
        "rebuild disputes --reason 'a column was added'",
        "rebuild --all --workers 4",
        "rebuild disputes --json | tail -1 | jq .state",
    ),
    resume: ("resume disputes",),
    pause: ("pause disputes --reason 'the disk is busy'",),
    cancel: ("cancel disputes",),
    switch: (
        "switch disputes --accept-differences --reason 'the old rows were wrong'",
        "switch disputes --generation 2",
    ),
    diff: ("diff disputes --json",),
    rollback: ("rollback disputes --reason 'a page shows wrong amounts'",),
    retire: ("retire disputes", "retire disputes --generation 1 --yes"),
}
"""The commands in the order in which --help shows them, each with calls of it."""


def _describe_loss(name: str, stored: Sequence[StoredGeneration]) -> str:
    """What `retire` is about to drop."""
    numbers = ", ".join(str(each.generation) for each in stored)
    known = [each.rows for each in stored if each.rows is not None]
    rows = f"about {format_count(sum(known), 'row')}, " if len(known) == len(stored) else ""
    size = decimal(sum(each.size_bytes for each in stored))
    loss = f"generation {numbers} of {name}: {rows}{size}"
    return f"This drops {loss}. There is no rolling back to what is dropped."


def _print_comparison(comparison: Mapping[str, Any]) -> None:
    heading = f"rebuild {comparison['rebuild']}, compared at {comparison['at']}"
    if not comparison["compared"]:
        stalled_at = comparison["live_position"]
        if stalled_at is None:
            print(f"{heading}: no generation was live to compare with")
        else:
            live = comparison.get("live", "?")
            print(f"{heading}: not compared: live generation {live} was stalled at position {stalled_at}")
        return
    print(
        f"{heading}: {format_count(comparison['rows'], 'row')}, {comparison['live_rows']} live, "
        f"at position {comparison['position']}"
    )
    for column in comparison["added"]:
        print(f"{column}: a new column, not compared")
    for difference in comparison["differences"]:
        print(difference["key"])
        live_values, other_values = difference["live"] or {}, difference["other"] or {}
        for path in {**live_values, **other_values}:
            print(f"  {path}: {_dump_json(live_values.get(path))} → {_dump_json(other_values.get(path))}")


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

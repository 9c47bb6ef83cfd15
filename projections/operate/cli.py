"""`ledger projections …`: the commands that show, verify and retry, and the group of all commands.

Lists are tables on a terminal and tab-separated lines when piped; with --json they are what HTTP returns. A
command exits with status 0 when it has done its work, otherwise with 1 and the reason in one line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ledger.cli.shell import print_table
from ledger.errors import SettingError
from projections.engine.status import GenerationStatus
from projections.operate import rebuild_cli
from projections.operate.actions import RebuildReport
from projections.operate.progress import render_line
from projections.operate.shell import (
    AllOption,
    JsonOption,
    NameArgument,
    ReasonOption,
    get_operator,
    run,
)
from projections.operate.watch import suggest_next_step
from projections.read_models.catalog import PROJECTIONS_BY_NAME
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
    for command in (status, show, verify, retry):
        group.command()(command)
    rebuild_cli.add_commands(group)
    return group


def status(as_json: JsonOption = False) -> None:
    """Show every projection's generations and lag, and open rebuilds."""
    report = run(lambda context: context.actions.load_status())
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
        return
    _print_generations(report.generations)
    for line in _format_rebuilds(report.rebuilds):
        print(line)


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show one projection, its rebuild, and what operators did to it."""
    report = run(lambda context: context.actions.load_projection(name))
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
        return
    _print_generations(report.generations)
    for line in _format_rebuilds([] if report.rebuild is None else [report.rebuild]):
        print(line)
    columns = ("at", "who", "action", "generation", "position", "reason")
    print_table(columns, [[operation[column] for column in columns] for operation in report.operations])


def verify(
    names: Annotated[list[str] | None, typer.Argument(help="The projections; default: all.")] = None,
    all_projections: AllOption = False,
    sample: Annotated[
        int | None, typer.Option(help="Check about so many streams, chosen at random; default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the log and compare it with the live rows.

    Exits 1 if rows differ, a projection or a stream that is not parked cannot be verified, or there was
    nothing to compare."""
    results = run(
        lambda context: context.actions.verify(names or [], all_projections=all_projections, sample=sample)
    )
    if as_json:
        print(json.dumps([result.to_json() for result in results], indent=2))
    else:
        _print_verifications(results, is_sample=sample is not None)
    if not all(result.is_success for result in results):
        raise typer.Exit(1)
    if not any(result.position if sample is None else result.rows for result in results):
        reason = "no events have been applied" if sample is None else "the sample found no rows"
        raise SettingError(f"nothing was verified: {reason}")


def retry(
    projection: Annotated[str, typer.Argument(help="The projection in which the stream is parked.")],
    stream: Annotated[str, typer.Argument(help="The stream: the id of an object.")],
    reason: ReasonOption = "",
) -> None:
    """Apply the parked events of a stream, in order. Exits 1 if it is still parked."""
    parked = run(lambda context: context.actions.retry(get_operator(reason), projection, stream))
    if errors := {error for shape, error in parked.values() if shape is not None}:
        raise SettingError(f"{projection} parked {stream} again: {'; '.join(sorted(errors))}")
    if parked:
        raise SettingError(
            f"{stream} is still parked in generation {max(parked)} of {projection}, which is being "
            "backfilled: retry when it has caught up"
        )
    print(f"{stream} is no longer parked in {projection}.")


def _print_generations(statuses: Sequence[GenerationStatus]) -> None:
    title = ("projection", "generation", "state", "checkpoint", "lag (events)", "lag (s)", "rows")
    rows: list[Sequence[Any]] = []
    for each in statuses:
        lag = each.lag
        position = (lag.projection, lag.generation, each.state, lag.position)
        rows.append((*position, lag.events, f"{lag.seconds:.1f}", _format_rows(each)))
    print_table(title, rows)
    for line in [*_format_stalled(statuses), *_format_parked(statuses)]:
        print(line)


def _format_rows(each: GenerationStatus) -> str:
    lag = each.lag
    if lag.projection not in PROJECTIONS_BY_NAME:
        return "not of this release"
    stalled = "stalled" if each.stalled else ""
    parked = f"{lag.parked} {'stream' if lag.parked == 1 else 'streams'} parked" if lag.parked else ""
    differing = f"{lag.differing} {'row differs' if lag.differing == 1 else 'rows differ'}"
    return ", ".join(filter(None, [stalled, parked, differing if lag.differing else ""])) or "complete"


def _format_stalled(statuses: Sequence[GenerationStatus]) -> list[str]:
    """Which generations no process moves, and where to look for the reason."""
    stalled = [each.lag for each in statuses if each.stalled and each.lag.projection in PROJECTIONS_BY_NAME]
    labels = ", ".join(f"{lag.projection}_g{lag.generation}" for lag in stalled)
    return [f"stalled: {labels}: no worker is running, or its log says why"] if labels else []


def _format_parked(statuses: Sequence[GenerationStatus]) -> list[str]:
    """The parked streams, each with the command that heals it."""
    lines = [
        f"{each.lag.projection} {each.lag.generation}: stream {parking.stream} is parked from position "
        f"{parking.position} (topic {parking.topic}; {parking.error}); once fixed: ledger projections retry "
        f"{each.lag.projection} {parking.stream}"
        for each in statuses
        for parking in each.parked
    ]
    more = len(lines) - PARKED_SHOWN_MAX
    return lines[:PARKED_SHOWN_MAX] + ([f"and {more} more; see all with --json"] if more > 0 else [])


def _format_rebuilds(reports: Sequence[RebuildReport]) -> list[str]:
    lines = []
    for report in reports:
        lines.append(render_line(report.rebuild, report.size_bytes))
        if (next_step := suggest_next_step(report.rebuild)) is not None:
            lines.append(f"  {next_step}")
    return lines


def _print_verifications(results: Sequence[Verification], *, is_sample: bool) -> None:
    title = ("projection", "generation", "position", "rows", "differing", "parked streams")
    print_table(
        title,
        [
            (each.projection, each.generation, each.position, each.rows, each.differing, each.parked)
            for each in results
            if each.error is None
        ],
    )
    for each in results:
        if each.error is not None:
            print(f"{each.projection}: not verified: {each.error}")
        elif is_sample and not each.rows:
            print(f"{each.projection}: nothing was verified, the sample found no rows")
        for key in each.keys[:KEYS_SHOWN_MAX]:
            print(f"{each.projection}: {key} differs")
        for line in _format_left_out(each):
            print(line)


def _format_left_out(result: Verification) -> list[str]:
    """The streams that were not compared, or only as of where they were parked."""
    lines = [
        f"{result.projection}: stream {each.stream} was left out: its record at position {each.position} "
        f"(topic {each.topic}) cannot be read ({each.error})"
        for each in result.left_out
    ]
    lines += [
        f"{result.projection}: stream {stream} is parked from position {position}, and was compared up to it"
        for stream, position in result.parked_streams.items()
    ]
    more = len(result.left_out) + result.parked - KEYS_SHOWN_MAX
    return lines[:KEYS_SHOWN_MAX] + ([f"{result.projection}: and {more} more streams"] if more > 0 else [])

"""`ledger projections …`: the commands that show, verify and retry, and the group of all commands.

Lists are tables on a terminal and tab-separated lines when piped; with --json each command prints what HTTP
returns. A command exits with status 0 when it has done its work, otherwise with 1 and the reason in one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ledger.cli import groups
from ledger.cli.groups import JsonOption, format_examples, print_json
from ledger.cli.shell import print_table
from ledger.errors import SettingError
from projections.operate import rebuild_cli
from projections.operate.shell import (
    AllOption,
    NameArgument,
    ReasonOption,
    complete_projection,
    get_operator,
    run,
)
from projections.operate.status_display import print_generations, print_rebuilds, watch_status
from projections.operate.stepper.cli import step
from projections.rebuild.verification import KEYS_SHOWN_MAX, Verification


def build_group() -> typer.Typer:
    """The group of commands."""
    group = groups.build_group(
        "The read models and the Event feed.",
        "ledger projections status --watch",
        "ledger projections rebuild disputes --reason 'a column was added'",
    )
    group.command(
        epilog=format_examples(
            "ledger projections status",
            "ledger projections status disputes --watch",
            "ledger projections status --json | jq '.data[].generations[].seconds'",
        )
    )(status)
    group.command(epilog=format_examples("ledger projections show disputes"))(show)
    group.command(
        epilog=format_examples(
            "ledger projections verify", "ledger projections verify disputes --sample 1000 --json"
        )
    )(verify)
    group.command(epilog=format_examples("ledger projections retry charges ch_0352I2S0wXTRNVkqM8D9w9"))(retry)
    group.command(
        epilog=format_examples(
            "ledger projections step disputes --position 88",
            "ledger projections step postings --after 88 --stream du_0352CZ5Gldsp6qNF5qNF1x --json",
        )
    )(step)
    rebuild_cli.add_commands(group)
    return group


def status(
    name: Annotated[
        str | None, typer.Argument(help="One projection; default: all.", autocompletion=complete_projection)
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Go on until Ctrl-C; to a pipe, print a line for each change of a generation."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show generations, lag and open rebuilds of projections.

    With --watch, --json prints a document in one line for each change."""
    if watch:
        watch_status(name, as_json=as_json)
        return
    report = run(lambda context: context.actions.load_status(name))
    if as_json:
        print_json(report.to_json())
        return
    print_generations(report.generations)
    print_rebuilds(report.rebuilds)


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show one projection, its rebuild, and what operators did to it."""
    report = run(lambda context: context.actions.load_projection(name))
    if as_json:
        print_json(report.to_json())
        return
    print_generations(report.generations)
    print_rebuilds([] if report.rebuild is None else [report.rebuild])
    columns = ("at", "who", "action", "generation", "position", "reason")
    print_table(columns, [[operation[column] for column in columns] for operation in report.operations])


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="The projections; default: all.", autocompletion=complete_projection),
    ] = None,
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
        print_json([result.to_json() for result in results])
    else:
        _print_verifications(results, is_sample=sample is not None)
    if not all(result.is_success for result in results):
        raise typer.Exit(1)
    if not any(result.position if sample is None else result.rows for result in results):
        reason = "no events have been applied" if sample is None else "the sample found no rows"
        raise SettingError(f"nothing was verified: {reason}")


def retry(
    projection: Annotated[
        str,
        typer.Argument(
            help="The projection in which the stream is parked.", autocompletion=complete_projection
        ),
    ],
    stream: Annotated[str, typer.Argument(help="The stream: the id of an object.")],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
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
    if as_json:
        print_json({"projection": projection, "stream": stream, "healed": True, "left_out_of": []})
        return
    print(f"{stream} is no longer parked in {projection}.")


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

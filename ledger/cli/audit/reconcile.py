"""`ledger audit reconcile`: whether the log and the read models agree about all money."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from ledger.audit.reconciliation.reconcile import reconcile as reconcile_all
from ledger.audit.reconciliation.report import Difference, Gap, Report
from ledger.cli.audit.shell import run_on_log
from ledger.cli.groups import JsonOption
from ledger.cli.shell import Deployment, format_count
from ledger.clock import Clock
from ledger.errors import SettingError
from ledger.store.codec import Codec

SAMPLE_MAX = 100_000


def reconcile(
    account: Annotated[str | None, typer.Option("--account", help="Only this account.")] = None,
    sample: Annotated[
        int | None, typer.Option(help="Only about so many charges, refunds and disputes, drawn at random.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that the log and the read models agree about money.

    Walks through all charges, refunds and disputes of all accounts and modes. Prints one line for each
    difference, and for each object that could not be checked. Exits with status 1 if there is any, and if
    nothing was checked."""
    if sample is not None and not 1 <= sample <= SAMPLE_MAX:
        raise SettingError(f"--sample: must be 1 to {SAMPLE_MAX}")
    report = run_on_log(
        lambda _, clock, deployment: _reconcile(deployment, clock, account, sample, as_json), account=account
    )
    print(json.dumps(report.to_json()) if as_json else _render_summary(report), flush=True)
    if not report.is_success:
        raise typer.Exit(1)


async def _reconcile(
    deployment: Deployment, clock: Clock, account: str | None, sample: int | None, as_json: bool
) -> Report:
    started = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    ) as bar:
        task = bar.add_task("reconciling", total=None)

        def show_progress(report: Report) -> None:
            rate = report.events / max(time.monotonic() - started, 0.001)
            found = format_count(report.differences, "difference")
            bar.update(task, description=f"{report.events:,} events, {rate:,.0f}/s, {found}")

        return await reconcile_all(
            deployment.dsn,
            Codec(deployment.service_keys),
            clock,
            show=_print_json if as_json else _print_line,
            show_progress=show_progress,
            account=account,
            sample=sample,
        )


def _print_json(found: Difference | Gap) -> None:
    kind = "difference" if isinstance(found, Difference) else "gap"
    print(json.dumps({"kind": kind, **found._asdict()}), flush=True)


def _print_line(found: Difference | Gap) -> None:
    place = "" if found.position is None else f"position {found.position}, "
    if isinstance(found, Gap):
        print(f"{place}{found.object}: {found.reason}", flush=True)
        return
    expected, actual = _render(found.expected), _render(found.found)
    print(f"{place}{found.object}: {found.what}: expected {expected}, found {actual}", flush=True)


def _render(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _render_summary(report: Report) -> str:
    """The last lines: what was compared, up to where, and the result."""
    lines = [
        f"{format_count(report.streams, 'object')} with {format_count(report.events, 'event')} and "
        f"{format_count(report.entries, 'balance transaction')} up to position {report.position}"
    ]
    for name, checkpoint in report.checkpoints.items():
        if checkpoint is not None:
            rows = format_count(report.rows[name], "row")
            lines.append(f"{rows} of {name} up to position {checkpoint}")
    if not report.streams:
        lines.append("Nothing was reconciled.")
    elif report.is_success:
        lines.append("Everything agrees.")
    else:
        differences = format_count(report.differences, "difference")
        lines.append(f"{differences}; {report.gaps} could not be reconciled.")
    return "\n".join(lines)

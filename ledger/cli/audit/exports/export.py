"""`ledger audit export`: writes recorded events to a file that can be checked offline.

While a file is incomplete its name ends with `.partial`; `--resume` goes on with it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ledger.audit.auditor import Auditor
from ledger.audit.exports.content import ExportError, ExportHeader, ExportLine, ExportTrailer
from ledger.audit.exports.formats import make_encoder
from ledger.audit.exports.ndjson import decode_part
from ledger.audit.exports.source import Encoder, ExportPlan, plan_export, stream_export
from ledger.audit.search.filters import LogFilters
from ledger.cli.audit import filter_options as options
from ledger.cli.audit.shell import AccountOption, LiveOption, run
from ledger.cli.shell import format_count
from ledger.errors import SettingError
from ledger.queries.context import QueryContext

PARTIAL_SUFFIX = ".partial"


class Format(StrEnum):
    """The formats."""

    NDJSON = "ndjson"
    PARQUET = "parquet"


def export_log(
    account: AccountOption = None,
    live: LiveOption = False,
    export_format: Annotated[
        Format, typer.Option("--format", help="Parquet is for analysts; it needs pyarrow.")
    ] = Format.NDJSON,
    out: Annotated[Path | None, typer.Option(help="The file to write; without it, standard output.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an incomplete export (NDJSON), FILE.partial.")
    ] = False,
    actor: options.Actor = None,
    request: options.Request = None,
    idempotency_key: options.IdempotencyKey = None,
    object_id: options.Object = None,
    customer: options.Customer = None,
    charge: options.Charge = None,
    payment_intent: options.PaymentIntent = None,
    event: options.Event = None,
    types: options.Types = None,
    since: options.Since = None,
    until: options.Until = None,
    after: options.After = None,
    before: options.Before = None,
) -> None:
    """Write recorded events to a file that is checked offline.

    `ledger audit verify-export` finds whatever is changed, removed or added in it. Personal data stays
    encrypted."""
    filters = options.make_filters(
        actor=actor, request=request, idempotency_key=idempotency_key, object_id=object_id, customer=customer,
        charge=charge, payment_intent=payment_intent, event=event, types=types, since=since, until=until,
        after=after, before=before,
    )  # fmt: skip
    if resume and (out is None or export_format is not Format.NDJSON):
        raise SettingError("--resume: needs --out, and a Parquet file cannot be continued")
    if out is not None and out.is_dir():
        raise SettingError(f"--out: {out} is a directory")
    if not resume and out is None and sys.stdout.isatty() and export_format is Format.PARQUET:
        raise SettingError("--out: a Parquet file is not written to a terminal")
    encoder = make_encoder(export_format.value)

    async def export(context: QueryContext, auditor: Auditor) -> int:
        with _open_target(out, resume=resume) as (target, partial):
            plan = await plan_export(context, auditor, _continue_filters(filters, partial))
            if partial is not None:
                _check_continued(plan.header, partial.header)
            return await write_export(context, plan, encoder, target)

    count = run(export, account=account, livemode=live)
    print(f"{format_count(count, 'record')} exported.", file=sys.stderr)


class _Partial(NamedTuple):
    """The whole lines of an incomplete export: its last header, and the last position."""

    header: ExportHeader
    position: int


async def write_export(context: QueryContext, plan: ExportPlan, encoder: Encoder, target: BinaryIO) -> int:
    """Write the export, and return the number of its records."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(), console=Console(stderr=True), disable=not sys.stderr.isatty(),
    )  # fmt: skip
    count = 0

    def show(records: int, position: int) -> None:
        nonlocal count
        count = records
        progress.update(task, completed=position - plan.header.after, description=f"{records:,} records")

    with progress:
        task = progress.add_task("exporting", total=plan.header.upto - plan.header.after)
        async for content in stream_export(context, plan, encoder, on_page=show):
            target.write(content)
    return count


@contextmanager
def _open_target(out: Path | None, *, resume: bool) -> Iterator[tuple[BinaryIO, _Partial | None]]:
    """The file to write to, and what it has when it is resumed. It gets its name when the block ends without
    an error. Raises SettingError."""
    if out is None:
        yield sys.stdout.buffer, None
        sys.stdout.buffer.flush()
        return
    path = out.with_name(out.name + PARTIAL_SUFFIX)
    try:
        with path.open("r+b" if resume else "wb") as file:
            yield file, _read_partial(file, path) if resume else None
        path.rename(out)
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}") from None


def _read_partial(file: BinaryIO, path: Path) -> _Partial | None:
    """What an incomplete file has. The part of a line at its end is cut off; None for a file in which even
    the header is not whole."""
    header, position, end = None, 0, 0
    try:
        for line in file:
            if not line.endswith(b"\n"):
                break
            part = decode_part(line)
            if isinstance(part, ExportTrailer):
                raise SettingError(f"{path} is complete: rename it")
            if isinstance(part, ExportHeader):
                header, position = part, max(position, part.after)
            elif isinstance(part, ExportLine):
                position = part.position
            end += len(line)
    except ExportError as error:
        raise SettingError(f"{path} is not the beginning of an export: {error}") from None
    file.truncate(end)
    file.seek(end)
    return None if header is None else _Partial(header, position)


def _continue_filters(filters: LogFilters, partial: _Partial | None) -> LogFilters:
    if partial is None:
        return filters
    others = {name: value for name, value in filters.position.items() if not name.startswith("gt")}
    return replace(filters, position=others | {"gt": partial.position})


def _check_continued(header: ExportHeader, old: ExportHeader) -> None:
    """Raises SettingError for a file that another command began."""
    for name in ("account", "livemode", "filters"):
        if getattr(header, name) != getattr(old, name):
            raise SettingError(f"--resume: the file has other {name}: {getattr(old, name)}")

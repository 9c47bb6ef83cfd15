"""`ledger audit archive` and `verify-archive`: a range of the log as a folder that proves itself."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ledger.audit.exports.archive import check_tiles, plan_archive, read_archive_tiles
from ledger.audit.exports.content import ExportError
from ledger.audit.exports.formats import make_encoder
from ledger.audit.exports.verification import OpenNote, VerifiedExport
from ledger.audit.search.filters import PositionRange
from ledger.cli.audit.exports.check import (
    KeyOption,
    PolicyOption,
    choose_trust,
    describe_result,
    print_result,
    verify_file,
)
from ledger.cli.audit.exports.export import PARTIAL_SUFFIX, write_export
from ledger.cli.audit.shell import run_on_all_accounts
from ledger.cli.groups import JsonOption, print_json
from ledger.cli.shell import format_count, make_printable
from ledger.errors import SettingError
from ledger.queries.context import QueryContext
from ledger.tlog.merkle import ProofError

EVENTS_FILE = "events.parquet"
CHECKPOINT_FILE = "checkpoint"


def write_archive(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    before: Annotated[int, typer.Option(min=1, help="Only positions before this one.")],
    after: Annotated[int, typer.Option(min=0, help="Only positions after this one.")] = 0,
) -> None:
    """Write a range of the log to a folder that proves itself.

    It has the records of all accounts in both modes as one Parquet file, which DuckDB and Spark read, and
    beside it the signed checkpoint and the tiles of the Merkle tree: `ledger audit verify-archive` checks all
    of it offline. Personal data stays encrypted. The log keeps what is archived."""
    if folder.exists():
        raise SettingError(f"{folder} is there already")
    encoder = make_encoder("parquet")

    async def archive(context: QueryContext) -> int:
        plan = await plan_archive(context, PositionRange(after, before - 1))
        with _make_folder(folder) as partial:
            (partial / CHECKPOINT_FILE).write_text(plan.header.checkpoint, encoding="utf-8")
            async for path, hashes in read_archive_tiles(context, plan):
                (partial / path).parent.mkdir(parents=True, exist_ok=True)
                (partial / path).write_bytes(hashes)
            with (partial / EVENTS_FILE).open("wb") as target:
                return await write_export(context, plan, encoder, target)

    count = run_on_all_accounts(archive)
    print(f"{format_count(count, 'record')} archived.", file=sys.stderr)


def verify_archive(
    folder: Annotated[Path, typer.Argument(help="An archive.")],
    key: KeyOption = None,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that an archive is whole and unchanged.

    It needs neither the database nor the network. Without --key and --policy it cannot tell who signed the
    checkpoint, and says so."""
    trust = choose_trust(key, policy)
    try:
        verified, tiles = _verify(folder, trust.open_note)
    except (ExportError, ProofError) as error:
        sys.exit(f"ledger: {folder}: {make_printable(error)}")
    if as_json:
        print_json(describe_result(verified, trust) | {"tiles": tiles})
    else:
        print_result(verified, trust)
        print(f"tiles: {format_count(tiles, 'tile')} of the tree, with the same root")


@contextmanager
def _make_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill. It gets its name when the block ends without an error, else it is removed. Raises
    SettingError."""
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    try:
        partial.mkdir()
    except FileExistsError:
        raise SettingError(f"{partial} is there already: remove it if no other command fills it") from None
    except OSError as error:
        raise SettingError(f"cannot make {partial}: {error.strerror}") from None
    try:
        yield partial
        partial.rename(folder)
    except OSError as error:
        raise SettingError(f"cannot write {partial}: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _verify(folder: Path, open_note: OpenNote) -> tuple[VerifiedExport, int]:
    """What the archive is proved to be, and how many tiles it has. Raises ExportError, ProofError,
    SettingError."""
    try:
        verified = verify_file(folder / EVENTS_FILE, open_note)
    except ExportError as error:
        raise ExportError(f"{EVENTS_FILE}: {error}") from None
    if verified.header.account is not None:
        raise ExportError(f"{EVENTS_FILE} is an export of one account: check it with verify-export")
    if not verified.records:
        raise ExportError(f"{EVENTS_FILE} has no record")
    if not verified.is_complete:
        raise ExportError(f"{EVENTS_FILE} leaves out records between its positions")
    if _read_file(folder, CHECKPOINT_FILE) != verified.header.checkpoint.encode():
        raise ExportError(f"{CHECKPOINT_FILE} is not the checkpoint of {EVENTS_FILE}")
    tiles = check_tiles(lambda path: _read_file(folder, path), verified.header, verified.checkpoint)
    return verified, tiles


def _read_file(folder: Path, path: str) -> bytes:
    try:
        return (folder / path).read_bytes()
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}") from None

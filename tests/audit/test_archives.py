"""Archives: a range of the log proves itself, and DuckDB answers from it as the database does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit.exports.archive import check_tiles
from ledger.audit.exports.content import ExportError, ExportHeader
from ledger.audit.exports.parquet import ParquetEncoder
from ledger.cli.audit.exports.archive import verify_archive
from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.merkle import Leaves
from ledger.tlog.tiles import list_tiles, tile_path
from tests.api.service import SERVICE_KEY, Account, Caller, Service, ok
from tests.audit.archived import Archive, ask_database, make_archive, read_statements
from tests.audit.export_files import KEY, Log, encode, make_records
from tests.internal.conftest import InternalClient
from tests.serving.process import run_ledger, run_refused
from tests.tlog.logs import MadeUpLog

TREE = MadeUpLog(600)
SMALL_LOG = Log(make_records(20))


@pytest.fixture
def archive(
    service: Service, raw: Caller, account: Account, operator: InternalClient, tmp_path: Path
) -> Archive:
    """Of all that the shared service has recorded: of this account charges in both modes."""
    live = Caller(raw.http, account.live_secret)
    ok(live.post("/v1/customers", {"name": "Live", "email": "ada@example.com"}))
    customer = ok(raw.post("/v1/customers", {"name": "Ada", "email": "ada@example.com"}))["id"]
    for number, currency in enumerate(("usd", "usd", "eur")):
        charge = {"id": f"ch_{customer}{number}", "customer": customer, "amount": 2000 + number}
        ok(operator.post("/charges", charge | {"currency": currency}))
    return make_archive(service, tmp_path)


def test_an_archive_has_all_accounts_and_modes_and_is_verified_offline(
    archive: Archive, account: Account, tmp_path: Path
) -> None:
    command = ("audit", "verify-archive", str(archive.folder), "--key", archive.key)
    verified = run_ledger(tmp_path / "none", *command)
    assert verified.returncode == 0, verified
    assert f"{archive.upto} records unchanged" in verified.stdout.replace(",", "")
    assert "account: all, either mode; filters: none\ncomplete: " in verified.stdout
    described = json.loads(run_ledger(tmp_path / "none", *command, "--json").stdout)
    assert (described["account"], described["records"], described["complete"]) == (None, archive.upto, True)
    assert described["tiles"] == len(list((archive.folder / "tile").rglob("*"))) - _count_folders(archive)
    export = run_ledger(tmp_path / "none", "audit", "verify-export", str(archive.folder / "events.parquet"))
    assert export.returncode == 0, export
    with duckdb.connect() as duck:
        modes = (
            f"SELECT DISTINCT livemode FROM '{archive.folder}/events.parquet' WHERE account = '{account.id}'"
        )
        assert sorted(duck.execute(modes).fetchall()) == [(False,), (True,)]
    assert b"ada@example.com" not in (archive.folder / "events.parquet").read_bytes()


def _count_folders(archive: Archive) -> int:
    return sum(each.is_dir() for each in (archive.folder / "tile").rglob("*"))


def test_duckdb_answers_from_an_archive_as_the_database(
    archive: Archive, account: Account, service: Service
) -> None:
    statement = read_statements()[1].replace("archive-1", str(archive.folder))
    with duckdb.connect() as duck:
        rows = sorted(duck.execute(statement).fetchall())
    assert [row[3:] for row in rows if row[0] == account.id] == [("eur", 1, 2002), ("usd", 2, 4001)]
    assert rows == ask_database(service, archive.upto)


def test_whatever_is_changed_in_an_archive_is_found(archive: Archive, tmp_path: Path) -> None:
    def remove(path: Path) -> None:
        path.unlink()

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    def shorten(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1])

    tile = sorted((archive.folder / "tile" / "0").rglob("*.p/*"))[-1].relative_to(archive.folder)
    changes: list[tuple[str, Callable[[Path], None], str]] = [
        (str(tile), flip, "do not have the root"),
        (str(tile), shorten, "bytes instead of"),
        (str(tile), remove, "cannot read tile/0/"),
        ("checkpoint", flip, "checkpoint is not the checkpoint of events.parquet"),
        ("checkpoint", remove, "cannot read checkpoint"),
        ("events.parquet", shorten, "events.parquet: the file cannot be read as Parquet"),
    ]
    for number, (path, change, message) in enumerate(changes):
        copy = tmp_path / f"copy {number}"
        shutil.copytree(archive.folder, copy)
        change(copy / path)
        with pytest.raises(SystemExit, match=message):
            verify_archive(copy, archive.key)


def test_what_cannot_be_archived_is_refused_in_one_line(
    service: Service, archive: Archive, tmp_path: Path
) -> None:
    on: dict[str, Any] = {"database_url": service.dsn, "secret_key": SERVICE_KEY}
    folder = tmp_path / "new"
    for arguments, message in (
        ((str(folder), "--before", "999999999"), "Position 999999998 is not sealed"),
        ((str(folder), "--before", "5", "--after", "4"), "There is no position after 4 and up to 4."),
        ((str(archive.folder), "--before", "2"), "archive-1 is there already"),
        ((str(tmp_path / "none" / "new"), "--before", "2"), "cannot make"),
    ):
        assert message in run_refused(tmp_path / "data", "audit", "archive", *arguments, **on)
    assert not folder.exists()
    (tmp_path / "new.partial").mkdir()
    refused = run_refused(tmp_path / "data", "audit", "archive", str(folder), "--before", "2", **on)
    assert "new.partial is there already" in refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "is an export of one account"),
        ({"account": None}, "needs both of account and livemode"),
        ({"account": None, "livemode": None}, "leaves out records"),
        ({"account": None, "livemode": None, "upto": 0}, "has no record"),
    ],
)
def test_a_folder_with_another_export_is_no_archive(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    parts = SMALL_LOG.export(lambda _: "upto" not in change)
    parts = parts._replace(header=msgspec.structs.replace(parts.header, **change))
    (tmp_path / "events.parquet").write_bytes(encode(parts, ParquetEncoder))
    with pytest.raises(SystemExit, match=message):
        verify_archive(tmp_path, str(KEY.verifier))


@given(st.data())
def test_every_byte_of_every_tile_counts(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, TREE.size), "size")
    begin = data.draw(st.integers(0, size - 1), "begin")
    end = data.draw(st.integers(begin + 1, size), "end")
    header = ExportHeader(
        account=None, livemode=None, filters={}, after=begin, upto=end, skipped=[], checkpoint=""
    )
    checkpoint = Checkpoint("log", size, TREE.root(size))
    files = {tile_path(*tile): TREE.read_tile(tile) for tile in list_tiles(Leaves(begin, end), size)}
    assert check_tiles(files.__getitem__, header, checkpoint) == len(files)
    path = data.draw(st.sampled_from(sorted(files)), "path")
    index = data.draw(st.integers(0, len(files[path]) - 1), "byte")
    content = bytearray(files[path])
    content[index] ^= 1
    with pytest.raises(ExportError):
        check_tiles((files | {path: bytes(content)}).__getitem__, header, checkpoint)

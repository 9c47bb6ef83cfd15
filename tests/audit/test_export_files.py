"""Export files by themselves: what is proved, and that every kind of tampering is found."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit.exports import ndjson, parquet
from ledger.audit.exports.content import COLUMNS, ExportError, ExportLine
from ledger.audit.exports.formats import make_encoder
from ledger.audit.exports.parquet import ParquetEncoder
from ledger.audit.exports.verification import VerifiedExport, verify_export
from ledger.cli.audit.exports.check import verify_export_file
from ledger.errors import InvalidParameter
from ledger.tlog.checkpoints import Checkpoint, open_checkpoint
from ledger.tree.records import Record, derive_leaf_hash
from tests.audit.export_files import ACCOUNT, KEY, OTHER_KEY, ExportParts, Log, encode, make_records

LOG = Log(make_records(41))
COMPLETE_LOG = Log([msgspec.structs.replace(record, account=ACCOUNT) for record in make_records(20)])
FILTERED = LOG.export(lambda record: record.position % 5 != 0)
FILE = encode(FILTERED)
LINES = FILE.splitlines(keepends=True)


def open_note(note: str) -> Checkpoint:
    return open_checkpoint(note, KEY.verifier)


def verify(content: bytes) -> VerifiedExport:
    return verify_export(ndjson.read_parts(io.BytesIO(content)), open_note)


def verify_parquet(place: Path, parts: ExportParts) -> VerifiedExport:
    file = place / "export.parquet"
    file.write_bytes(encode(parts, ParquetEncoder))
    return verify_export(parquet.read_parts(file), open_note)


def test_a_line_has_all_columns_of_a_record() -> None:
    assert set(COLUMNS) | {"state"} == set(Record.__struct_fields__)
    assert set(Record.__struct_fields__) < set(ExportLine.__struct_fields__)


def test_a_complete_export_is_known_to_be_complete(tmp_path: Path) -> None:
    parts = COMPLETE_LOG.export()
    verified = verify(encode(parts))
    assert (verified.records, verified.after, verified.is_complete) == (20, 0, True)
    assert verified.checkpoint.size == 20
    assert verify_parquet(tmp_path, parts) == verified


def test_an_export_of_one_account_of_many_is_verified_and_not_complete(tmp_path: Path) -> None:
    verified = verify(FILE)
    assert (verified.records, verified.is_complete) == (len(FILTERED.lines), False)
    assert 0 < verified.records < 41
    assert verify_parquet(tmp_path, FILTERED) == verified


def test_what_a_file_states_of_itself_neither_steers_the_terminal_nor_adds_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Filters are not proved: whoever hands on a file may write any text there."""
    filters = {"type": "x\ncomplete: no record between these positions is left out\x1b[2J"}
    header = msgspec.structs.replace(FILTERED.header, filters=filters)
    file = tmp_path / "export.ndjson"
    file.write_bytes(encode(FILTERED._replace(header=header)))
    verify_export_file(file, str(KEY.verifier))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert not any(line.startswith("complete") for line in printed.splitlines())


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9])
def test_logs_of_every_small_size_are_exported(size: int, tmp_path: Path) -> None:
    for after in range(size + 1):
        for parts in (
            LOG.export(after=after, size=size),
            LOG.export(lambda _: False, after=after, size=size),
        ):
            assert verify(encode(parts)).records == len(parts.lines)
    assert verify_parquet(tmp_path, LOG.export(size=size)).checkpoint.size == size


def test_a_broken_download_is_continued_after_its_last_whole_line() -> None:
    for kept in range(1, len(LINES)):
        after = FILTERED.lines[kept - 2].position if kept > 1 else 0
        rest = encode(LOG.export(lambda record: record.position % 5 != 0, after=after))
        verified = verify(b"".join(LINES[:kept]) + rest)
        assert (verified.records, verified.after) == (len(FILTERED.lines), 0)


def test_a_continuation_of_something_else_is_refused() -> None:
    begin, after = b"".join(LINES[:4]), FILTERED.lines[2].position
    rest = LOG.export(after=after)
    header = rest.header
    older = LOG.export(after=after, size=after)
    for changed in (
        msgspec.structs.replace(header, account="acct_2"),
        msgspec.structs.replace(header, livemode=True),
        msgspec.structs.replace(header, filters={"actor": "key_1"}),
        LOG.export(after=after - 1).header,
        LOG.export(after=after + 1).header,
    ):
        with pytest.raises(ExportError, match="line 5: "):
            verify(begin + encode(rest._replace(header=changed)))
    with pytest.raises(ExportError, match=r"line 5: its checkpoint is .*older"):
        verify(begin + encode(older))
    other = make_records(41)
    other[0] = msgspec.structs.replace(other[0], topic="customer.deleted")
    with pytest.raises(ExportError, match="line 5: the records before it are not those"):
        verify(begin + encode(Log(other).export(after=after)))


@pytest.mark.parametrize("name", [*COLUMNS, "state", "state_base64", "leaf_hash", "skipped"])
@pytest.mark.parametrize("index", [0, 3, len(FILTERED.lines) - 1])
def test_a_changed_column_is_found_at_its_line(name: str, index: int, tmp_path: Path) -> None:
    line = FILTERED.lines[index]
    changed = msgspec.structs.replace(line, **{name: _change(getattr(line, name))})
    parts = FILTERED._replace(lines=[*FILTERED.lines[:index], changed, *FILTERED.lines[index + 1 :]])
    with pytest.raises(ExportError, match=rf"^line {index + 2}: "):
        verify(encode(parts))
    with pytest.raises(ExportError, match=rf"^row {index + 1}: "):
        verify_parquet(tmp_path, parts)


def _change(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return [*value, bytes(32)] if isinstance(value, list) else (None if value else "x")


def test_a_record_changed_with_its_hash_is_found_by_the_root(tmp_path: Path) -> None:
    """And so are hashes of what was left out: of the lines, of the header and of the trailer."""
    line = msgspec.structs.replace(FILTERED.lines[1], topic="customer.deleted")
    record = msgspec.structs.replace(LOG.records[line.position - 1], topic="customer.deleted")
    line = msgspec.structs.replace(line, leaf_hash=derive_leaf_hash(record))
    with_gap = next(number for number, each in enumerate(FILTERED.lines) if each.skipped)
    gap = msgspec.structs.replace(FILTERED.lines[with_gap], skipped=[bytes(32)])
    later = LOG.export(after=6)
    early = LOG.export(lambda record: record.position < 41)
    forged = [
        FILTERED._replace(lines=[FILTERED.lines[0], line, *FILTERED.lines[2:]]),
        FILTERED._replace(lines=[*FILTERED.lines[:with_gap], gap, *FILTERED.lines[with_gap + 1 :]]),
        later._replace(header=msgspec.structs.replace(later.header, skipped=[bytes(32)] * 2)),
        early._replace(trailer=msgspec.structs.replace(early.trailer, skipped=[bytes(32)])),
    ]
    for parts in forged:
        with pytest.raises(ExportError, match="do not have the root of the checkpoint"):
            verify(encode(parts))
        with pytest.raises(ExportError, match="do not have the root of the checkpoint"):
            verify_parquet(tmp_path, parts)


@given(st.integers(0, len(FILE) - 1))
def test_a_file_truncated_at_any_byte_is_refused(length: int) -> None:
    with pytest.raises(ExportError, match="truncated"):
        verify(FILE[:length])


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_change_of_any_byte_is_found_but_in_what_the_header_only_states(index: int, mask: int) -> None:
    """`filters` and `upto` are statements of the header; every other byte counts."""
    changed = bytearray(FILE)
    changed[index] ^= mask
    if changed.splitlines(keepends=True)[1:] == LINES[1:]:
        header = msgspec.json.decode(LINES[0])
        try:
            stated = msgspec.json.decode(bytes(changed).split(b"\n")[0])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            stated = {}
        if {**stated, "upto": 0, "filters": {}} == {**header, "upto": 0, "filters": {}}:
            return
    with pytest.raises(ExportError):
        verify(bytes(changed))


@given(st.data())
def test_lines_that_are_removed_doubled_swapped_or_added_are_found(data: st.DataObject) -> None:
    lines = list(LINES)
    kind = data.draw(st.sampled_from(["remove", "double", "swap", "add"]))
    index = data.draw(st.integers(0, len(lines) - 1))
    if kind == "remove":
        del lines[index]
    elif kind == "double":
        # A header that is followed by itself is an empty part that is continued.
        lines.insert(data.draw(st.integers(0 if index else 2, len(lines))), lines[index])
    elif kind == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda other: lines[other] != lines[index]))
        lines[index], lines[other] = lines[other], lines[index]
    else:
        foreign = LOG.export(lambda record: record.position % 5 == 0).lines
        added = data.draw(st.sampled_from(foreign))
        lines.insert(data.draw(st.integers(0, len(lines))), msgspec.json.encode(added) + b"\n")
    with pytest.raises(ExportError):
        verify(b"".join(lines))


@pytest.mark.parametrize(
    "change",
    [{"account": "acct_2"}, {"livemode": True}, {"after": 1}, {"skipped": [bytes(32)]}, {"upto": 7},
     {"upto": 42}, {"format": "ledger-export/2"}],
)  # fmt: skip
def test_a_header_of_something_else_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    parts = FILTERED._replace(header=msgspec.structs.replace(FILTERED.header, **change))
    with pytest.raises(ExportError):
        verify(encode(parts))
    with pytest.raises(ExportError):
        verify_parquet(tmp_path, parts)


def test_a_trailer_counts_the_records_and_is_the_end(tmp_path: Path) -> None:
    parts = COMPLETE_LOG.export()
    for count in (0, 19, 21):
        changed = parts._replace(trailer=msgspec.structs.replace(parts.trailer, records=count))
        with pytest.raises(ExportError, match="counts"):
            verify(encode(changed))
        with pytest.raises(ExportError, match="counts"):
            verify_parquet(tmp_path, changed)
    content = encode(parts)
    for line in content.splitlines(keepends=True)[-1], content.splitlines(keepends=True)[0]:
        with pytest.raises(ExportError, match=r"^line 23: something follows the trailer"):
            verify(content + line)


def test_another_key_or_checkpoint_is_refused_at_the_header() -> None:
    for note in (LOG.sign(key=OTHER_KEY), LOG.sign(40), COMPLETE_LOG.sign(), "", LOG.sign()[:-3]):
        parts = FILTERED._replace(header=msgspec.structs.replace(FILTERED.header, checkpoint=note))
        with pytest.raises(ExportError):
            verify(encode(parts))
    with pytest.raises(ExportError, match=r"^line 1: "):
        verify_export(
            ndjson.read_parts(io.BytesIO(FILE)), lambda note: open_checkpoint(note, OTHER_KEY.verifier)
        )


@pytest.mark.parametrize(
    "line",
    [
        LINES[1].replace(b'{"position":', b'{"position": '),
        LINES[1].replace(b'"livemode":', b'"topic":"customer.deleted","livemode":'),
        LINES[1].replace(b"customer.", b"\\u0063ustomer."),
        LINES[1].replace(b'"state":', b'"more":1,"state":'),
        LINES[1].replace(b'"position":1', b'"position":1.0'),
        LINES[1].replace(b'"version":1', b'"version":1' + b"0" * 30),
        LINES[1].replace(b"\n", b" \n"),
        LINES[1].replace(b"\n", b"\r\n"),
        b"\n",
        b"[]\n",
    ],
)
def test_a_line_that_others_could_read_differently_is_refused(line: bytes) -> None:
    assert line != LINES[1]
    with pytest.raises(ExportError, match=r"^line 2: "):
        verify(b"".join([LINES[0], line, *LINES[2:]]))


@given(st.binary(max_size=200))
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ExportError):
        verify(content)


def test_a_parquet_file_without_its_end_cannot_be_read(tmp_path: Path) -> None:
    content = encode(FILTERED, ParquetEncoder)
    file = tmp_path / "export.parquet"
    for length in (0, 3, 4, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ExportError, match="cannot be read as Parquet"):
            list(parquet.read_parts(file))


def test_a_parquet_file_of_other_columns_or_without_header_is_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet as pq

    file = tmp_path / "export.parquet"
    file.write_bytes(encode(FILTERED, ParquetEncoder))
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({}), file)
    with pytest.raises(ExportError, match="no header"):
        list(parquet.read_parts(file))
    pq.write_table(table.append_column("more", pyarrow.array([1] * len(table))), file)
    with pytest.raises(ExportError, match="columns"):
        list(parquet.read_parts(file))


def test_without_pyarrow_the_format_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidParameter, match=r"^Parquet needs .* pip install pyarrow") as refused:
        make_encoder("parquet")
    assert refused.value.param == "format"
    make_encoder("ndjson")

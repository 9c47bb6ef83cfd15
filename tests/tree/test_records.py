"""The canonical form of a record: fixed bytes, read back as they were, and no second spelling."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.tlog.merkle import ProofError
from ledger.tree.records import PREFIX, Record, decode_record, derive_entry, derive_leaf_hash, encode_record

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
COLUMNS = st.none() | TEXTS
NUMBERS = st.integers(1, 2**63 - 1)
RECORDS = st.builds(
    Record,
    position=NUMBERS, stream=TEXTS, version=NUMBERS, topic=TEXTS, account=TEXTS, livemode=st.booleans(),
    actor=COLUMNS, request_id=COLUMNS, idempotency_key=COLUMNS, causation=COLUMNS, customer=COLUMNS,
    charge=COLUMNS, payment_intent=COLUMNS, recorded_at=st.integers(-(2**62), 2**62),
    state=st.binary(max_size=100),
)  # fmt: skip
# The worked example of docs/audit/proofs.md.
EXAMPLE = Record(
    position=7,
    stream="du_1",
    version=2,
    topic="dispute.closed",
    account="acct_1",
    livemode=False,
    actor="sk_1",
    request_id="req_1",
    idempotency_key=None,
    causation=None,
    customer=None,
    charge="ch_1",
    payment_intent="",
    recorded_at=1_796_000_000_000_001,
    state=b'{"status":"won"}',
)
EXAMPLE_ENTRY = "2ea517681fd4a4b5aa3336bdd618ee3ec47e2625950eeae8d44f6987e531b9ba"
EXAMPLE_LEAF = "0b356bd68832c16c50f991bd10b3cee2a6918415b1c4af4f0d90ab3d2e996949"


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


@given(RECORDS, st.data())
def test_each_column_is_part_of_the_hash(record: Record, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(Record.__struct_fields__))
    other = data.draw(RECORDS)
    fields = {each: getattr(record, each) for each in Record.__struct_fields__}
    changed = Record(**(fields | {name: getattr(other, name)}))
    assert (derive_entry(changed) == derive_entry(record)) == (changed == record)


def test_the_example_of_the_documentation() -> None:
    content = encode_record(EXAMPLE)
    assert content.startswith(PREFIX + b"\0\0\0\x017\0\0\0\x04du_1\0\0\0\x012\0\0\0\x0edispute.closed")
    assert content.endswith(
        b"\xff\xff\xff\xff\0\0\0\x04ch_1\0\0\0\0\0\0\0\x101796000000000001\0\0\0\x10" + EXAMPLE.state
    )
    assert derive_entry(EXAMPLE).hex() == EXAMPLE_ENTRY
    assert derive_leaf_hash(EXAMPLE).hex() == EXAMPLE_LEAF


def replaced(old: bytes, new: bytes) -> bytes:
    content = encode_record(EXAMPLE)
    assert old in content
    return content.replace(old, new)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        PREFIX,
        b"x",
        encode_record(EXAMPLE)[:-1],
        encode_record(EXAMPLE) + b"x",
        encode_record(EXAMPLE) + b"\xff\xff\xff\xff",
        replaced(b"record/1", b"record/2"),
        replaced(b"\0\0\0\x017", b"\0\0\0\x0207"),
        replaced(b"\0\0\0\x017", b"\0\0\0\x02+7"),
        replaced(b"\0\0\0\x017", b"\xff\xff\xff\xff"),
        replaced(b"\0\0\0\x05false", b"\0\0\0\x010"),
        replaced(b"\0\0\0\x05false", b"\0\0\0\x05False"),
        replaced(b"du_1", b"du_\xff"),
        replaced(b"\0\0\0\x10{", b"\0\0\0\x11{"),
    ],
)
def test_any_other_bytes_are_refused(content: Any) -> None:
    with pytest.raises(ProofError, match="not the canonical form"):
        decode_record(content)

"""An export in the clear, written again: nothing of an erased person stays in it, and all else stays."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from ledger.audit.importable.redaction import NotAnExport, find_erased, redact_line, rewrite
from ledger.erasure.exports import rewrite_file

MARK = "MARK-of-Ada"
OTHERS: list[dict[str, Any]] = [
    {"op": "customer", "id": "cus_2", "created": 2, "name": "Grace", "email": "grace@example.com"},
    {"op": "charge", "id": "ch_9", "amount": 100, "currency": "usd", "created": 3, "customer": "cus_2"},
    {"op": "file", "id": "file_9", "purpose": "dispute_evidence", "content": "JVBERg=="},
    {"op": "webhook_endpoint", "url": "https://example.com/hook", "enabled_events": ["*"], "disabled": True},
]
ERASED: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    (
        {"op": "file", "id": "file_1", "purpose": "dispute_evidence", "content": MARK, "filename": MARK},
        None,
    ),
    (
        {"op": "customer", "id": "cus_1", "created": 1, "balance": 5, "name": MARK, "metadata": {"a": MARK}},
        {"op": "customer", "id": "cus_1", "created": 1, "balance": 5},
    ),
    (
        {
            "op": "charge", "id": "ch_1", "amount": 2000, "currency": "usd", "created": 1,
            "customer": "cus_1", "billing_details": {"name": MARK}, "receipt_email": MARK,
            "payment_method_details": {"card": {"last4": "4242"}}, "payment_intent": "pi_1",
        },
        {
            "op": "charge", "id": "ch_1", "amount": 2000, "currency": "usd", "created": 1,
            "customer": "cus_1", "payment_intent": "pi_1",
        },
    ),
    (
        {"op": "refund", "id": "re_1", "charge": "ch_1", "amount": 5, "created": 1, "metadata": {"a": MARK}},
        {"op": "refund", "id": "re_1", "charge": "ch_1", "amount": 5, "created": 1},
    ),
    (
        {"op": "dispute", "id": "du_1", "charge": "ch_1", "kind": "chargeback", "amount": 2000, "created": 2},
        {"op": "dispute", "id": "du_1", "charge": "ch_1", "kind": "chargeback", "amount": 2000, "created": 2},
    ),
    (
        {
            "op": "response", "dispute": "du_1", "submission": 1,
            "evidence": {"receipt": "file_1", "customer_name": MARK},
        },
        {"op": "response", "dispute": "du_1", "submission": 1},
    ),
    ({"op": "response", "dispute": "du_1", "metadata": {"a": MARK}}, None),
    (
        {"op": "fact", "dispute": "du_1", "fact": "lost", "reference": "export:5"},
        {"op": "fact", "dispute": "du_1", "fact": "lost", "reference": "export:5"},
    ),
    (
        {
            "op": "event", "id": "evt_1", "type": "invoice.paid",
            "object": {"id": "in_1", "customer": "cus_1", "x": MARK},
        },
        None,
    ),
    (
        {
            "op": "resource", "type": "invoice", "id": "in_2",
            "object": {"id": "in_2", "customer": {"id": "cus_1"}, "x": MARK},
        },
        None,
    ),
]  # fmt: skip


def encode(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


WHOLE = encode([OTHERS[0], *(line for line, _ in ERASED), *OTHERS[1:]])
REWRITTEN = encode([OTHERS[0], *(kept for _, kept in ERASED if kept is not None), *OTHERS[1:]])


def test_all_that_belongs_to_the_person_is_found_in_the_file() -> None:
    erased = find_erased(BytesIO(WHOLE), {"cus_1"})
    assert erased == {"cus_1", "ch_1", "re_1", "du_1", "file_1", "evt_1", "in_2"}


def test_the_files_of_an_appeal_are_found_in_the_file_whatever_their_ids() -> None:
    appeal = {"card": {"supporting_files": ["file_2", "doc-3"]}}
    lines: list[dict[str, Any]] = [
        {"op": "response", "dispute": "du_1", "evidence": {"receipt": "doc-1", "appeal": appeal}},
        *({"op": "file", "id": each, "content": MARK} for each in ("doc-1", "file_2", "doc-3")),
    ]
    assert find_erased(BytesIO(encode(lines)), {"du_1"}) == {"du_1", "doc-1", "file_2", "doc-3"}


def test_only_what_the_contract_needs_stays_of_the_person() -> None:
    target = BytesIO()
    changed = rewrite(BytesIO(WHOLE), target, find_erased(BytesIO(WHOLE), {"cus_1"}))
    assert MARK.encode() not in target.getvalue()
    assert target.getvalue() == REWRITTEN
    assert changed == len(ERASED) - 2
    again = BytesIO()
    assert rewrite(BytesIO(REWRITTEN), again, find_erased(BytesIO(REWRITTEN), {"cus_1"})) == 0
    assert again.getvalue() == REWRITTEN


@pytest.mark.parametrize("line", [line for line, _ in ERASED], ids=lambda line: line["op"])
def test_a_member_that_is_added_later_does_not_stay(line: dict[str, Any]) -> None:
    kept = redact_line(line | {"added_later": MARK})
    assert kept is None or "added_later" not in kept


def test_the_file_is_replaced_as_a_whole_and_another_one_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "all.ndjson"
    file.write_bytes(WHOLE)
    rewritten = rewrite_file(file, {"cus_1"})
    assert file.read_bytes() == REWRITTEN
    assert (rewritten.size_bytes, [path.name for path in tmp_path.iterdir()]) == (
        len(REWRITTEN),
        ["all.ndjson"],
    )
    for content in (b'{"op":"customer"}', b"\x00\x01\n", b'{"id":"cus_1"}\n'):
        file.write_bytes(WHOLE + content)
        with pytest.raises(NotAnExport, match="line 15 is not one of an export"):
            rewrite_file(file, {"cus_1"})
        assert file.read_bytes() == WHOLE + content

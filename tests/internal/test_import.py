"""Imports: results in order, each line on its own, idempotent, fast, however the client reads."""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.service import Account, Caller, Registrar, Service, assert_refused, ok
from tests.internal.conftest import InternalClient


def import_lines(operator: InternalClient, lines: Iterable[Any]) -> list[Any]:
    content = b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )
    answer = operator.http.post(
        "/internal/v1/import", content=content, headers={"authorization": f"Bearer {operator.key}"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def create_story(name: str) -> list[dict[str, Any]]:
    """A customer, its charge, the dispute of the charge, and the fact that ends it."""
    return [
        {"op": "customer", "id": f"cus_{name}", "name": name},
        {"op": "charge", "id": f"ch_{name}", "customer": f"cus_{name}", "amount": 2000, "currency": "usd"},
        {"op": "dispute", "id": f"du_{name}", "charge": f"ch_{name}", "kind": "chargeback",
         "reference": f"open-{name}"},
        {"op": "fact", "dispute": f"du_{name}", "fact": "won", "reference": f"won-{name}"},
    ]  # fmt: skip


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def test_lines_may_refer_to_lines_before_them(operator: InternalClient, raw: Caller, name: str) -> None:
    lines = [line for number in range(50) for line in create_story(f"{name}{number}")]
    results = import_lines(operator, lines)
    assert [result["line"] for result in results] == list(range(1, 201))
    assert all(result["changed"] for result in results), [each for each in results if "error" in each][:3]
    assert [result["id"] for result in results[:4]] == [
        f"{kind}_{name}0" for kind in ("cus", "ch", "du", "du")
    ]
    won = ok(raw.get(f"/v1/disputes/du_{name}7"))
    assert (won["status"], len(won["balance_transactions"])) == ("won", 2)


def test_the_same_input_again_changes_nothing(operator: InternalClient, raw: Caller, name: str) -> None:
    lines = [line for number in range(20) for line in create_story(f"{name}{number}")]
    first = import_lines(operator, lines)
    events = len(raw.events())
    again = import_lines(operator, lines)
    positions = [result.pop("position") for result in first]
    assert positions == sorted(positions)
    assert again == [result | {"changed": False} for result in first]
    assert len(raw.events()) == events


def test_a_repeated_line_changes_nothing(operator: InternalClient, raw: Caller, name: str) -> None:
    lines = [line for line in create_story(name) for _ in range(5)]
    assert [result["changed"] for result in import_lines(operator, lines)] == [True, *[False] * 4] * 4
    assert len(ok(raw.get(f"/v1/disputes/du_{name}"))["balance_transactions"]) == 2


@pytest.mark.contract("9 byte order mark")
@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 1000])
def test_a_byte_order_mark_is_skipped_at_the_start_only(
    operator: InternalClient, name: str, chunk_bytes: int
) -> None:
    lines = [json.dumps({"op": "customer", "id": f"cus_{name}{number}"}).encode() for number in range(2)]

    def read(content: bytes) -> list[Any]:
        chunks = (content[start : start + chunk_bytes] for start in range(0, len(content), chunk_bytes))
        answer = operator.http.post(
            "/internal/v1/import", content=chunks, headers={"authorization": f"Bearer {operator.key}"}
        )
        return [json.loads(line) for line in answer.text.splitlines()]

    assert [result["line"] for result in read(BOM_UTF8 + b"\n".join(lines)) if "error" not in result] == [
        1,
        2,
    ]
    for content in (BOM_UTF8 * 2 + lines[0], lines[0] + b"\n" + BOM_UTF8 + lines[1], BOM_UTF8[:2]):
        assert "not valid UTF-8 JSON" in read(content)[-1]["error"]["message"]
    assert read(BOM_UTF8) == []


def test_an_invalid_line_fails_alone(operator: InternalClient, name: str) -> None:
    customer, charge, dispute, fact = create_story(name)
    lines: list[Any] = [
        customer,
        b"{no json",
        {"op": "magic", "id": "x"},
        charge | {"amount": "2000"},
        charge | {"colour": "red"},
        b"",
        dispute,
        charge,
        charge | {"id": f"cus_{name}"},
        dispute | {"amount": 9000},
        dispute,
        fact | {"fact": "escalated"},
        {"op": "fact", "dispute": f"du_{name}", "fact": "won"},
        b'{"op": "customer", "id": "cus_long", "name": "' + b"x" * 1_100_000 + b'"}',
        fact,
    ]
    results = {result["line"]: result for result in import_lines(operator, lines)}
    assert 6 not in results  # blank
    assert [number for number in results if "error" not in results[number]] == [1, 8, 11, 15]
    errors = {number: result["error"] for number, result in results.items() if "error" in result}
    assert errors[2]["message"] == "The line is not valid UTF-8 JSON."
    assert errors[3]["type"] == "invalid_request_error"
    assert (errors[4]["param"], errors[5]["param"]) == ("amount", "colour")
    assert errors[5]["code"] == "parameter_unknown"
    assert (errors[7]["code"], errors[7]["param"]) == ("resource_missing", "charge")
    assert errors[9]["code"] == "resource_already_exists"
    assert errors[10]["param"] == "amount"
    assert errors[12]["code"] == "dispute_state"
    assert errors[13]["param"] == "reference"
    assert "longer than" in errors[14]["message"]


@pytest.mark.parametrize(
    ("line", "param", "message"),
    [
        ({"op": "custmer"}, "op", "must be one of charge, customer, deletion, dispute, "),
        ({"op": "custmer"}, "op", "Did you mean customer?"),
        ({"id": "cus_1"}, "op", "Missing required param: op. It must be one of charge, customer, deletion, "),
        ({"op": "customer", "id": "cus_1", "nmae": "Ada"}, "nmae", "Did you mean name?"),
        (
            {"op": "customer", "id": "cus_1", "address": {"citty": "Paris"}},
            "address[citty]",
            "Did you mean address[city]?",
        ),
        (
            {"op": "webhook_endpoint", "id": "we_1", "url": "u", "enabled_events": ["dispute.created"]},
            "enabled_events[0]",
            "must be * or an Event type: charge.dispute.created, ",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_misspelt_name_is_refused_with_the_names_there_are(
    operator: InternalClient, line: dict[str, Any], param: str, message: str
) -> None:
    (result,) = import_lines(operator, [line])
    assert result["error"]["param"] == param
    assert message in result["error"]["message"]


@pytest.mark.parametrize("member", ["op", "x" * 100_000])
def test_an_error_about_a_long_name_is_short(operator: InternalClient, member: str) -> None:
    (result,) = import_lines(operator, [{"op": "customer", "id": "cus_1"} | {member: "y" * 100_000}])
    assert len(json.dumps(result)) < 1000


def test_a_charge_may_be_captured_in_part(operator: InternalClient, raw: Caller, name: str) -> None:
    line = create_story(name)[1] | {"amount_captured": 1500}
    del line["customer"]
    (made,) = import_lines(operator, [line])
    assert made["changed"]
    shown = ok(raw.get(f"/v1/charges/ch_{name}"))
    assert (shown["amount"], shown["amount_captured"], shown["captured"]) == (2000, 1500, True)
    results = import_lines(
        operator,
        [
            line,
            line | {"amount_captured": 1400},
            line | {"id": f"ch_{name}2", "amount_captured": 2001},
            line | {"id": f"ch_{name}3", "captured": False},
        ],
    )
    assert not results[0]["changed"]
    assert [result["error"]["param"] for result in results[1:]] == ["amount_captured"] * 3


def test_a_response_to_a_dispute_is_imported_once(operator: InternalClient, raw: Caller, name: str) -> None:
    *story, won = create_story(name)
    content = base64.b64encode(b"%PDF-1.4 ".ljust(3_000_000, b"x")).decode()
    dispute, file = f"du_{name}", f"file_{name}"
    evidence = {"uncategorized_text": "winning_evidence", "receipt": file}
    submission = {"op": "response", "dispute": dispute, "submission": 1, "evidence": evidence}
    lines = [
        *story,
        {"op": "file", "id": file, "purpose": "dispute_evidence", "content": content},
        {"op": "response", "dispute": dispute, "evidence": {"receipt": file}, "metadata": {"a": "1"}},
        submission,
    ]
    assert all(result["changed"] for result in import_lines(operator, lines))
    shown = ok(raw.get(f"/v1/disputes/{dispute}"))  # no test outcome follows
    assert (shown["status"], shown["evidence"]["receipt"]) == ("under_review", file)
    assert (shown["metadata"], shown["evidence_details"]["submission_count"]) == ({"a": "1"}, 1)
    assert import_lines(operator, [won])[0]["changed"]
    closed = {"op": "response", "dispute": dispute, "closed": True}
    again = import_lines(operator, [submission, won, closed])
    assert [result["changed"] for result in again] == [False] * 3
    refused = import_lines(
        operator,
        [
            submission | {"evidence": {"uncategorized_text": "other"}},
            submission | {"submission": 3},
            submission | {"submission": 2},
            submission | {"evidence": {"uncategorized_txt": "x"}},
            submission | {"dispute": "du_none"},
        ],
    )
    params = ["evidence", "submission", "submission", "evidence[uncategorized_txt]", None]
    assert [result["error"].get("param") for result in refused[:4]] == params[:4]
    assert refused[4]["error"]["code"] == "resource_missing"


def test_webhook_endpoints_are_imported_once_and_within_their_limits(
    operator: InternalClient, raw: Caller, name: str
) -> None:
    line = {
        "op": "webhook_endpoint",
        "id": f"we_{name}",
        "url": "https://hooks.example.com/elsewhere",
        "enabled_events": ["charge.dispute.created", "*"],
        "api_version": "2024-06-20",
        "connect": True,
        "description": "Elsewhere",
        "disabled": True,
        "metadata": {"a": "1"},
        "ordered": True,
    }
    plain = {"op": "webhook_endpoint", "url": "https://hooks.example.com/", "enabled_events": ["*"]}
    bad = [
        line | {"id": "we_a", "url": "https://a@b.example"},
        line | {"id": "we_b", "enabled_events": ["*", "charge.*"]},
        line | {"id": "we_c", "enabled_events": []},
        line | {"id": "we_d", "api_version": "2024-06-21"},
        line | {"id": "we_e", "secret": "whsec_x"},
        plain,
    ]
    full = [plain | {"id": f"we_{name}{number}"} for number in range(20)]
    others = [line | {"disabled": False}, line | {"ordered": False}, line | {"standard_webhooks": True}]
    first, again, *results = import_lines(operator, [line, line, *others, *bad])
    assert (first["changed"], again["changed"]) == (True, False)
    differing, refusals = results[:3], results[3:]
    assert [each["error"]["param"] for each in differing] == ["disabled", "ordered", "standard_webhooks"]
    assert [(each["error"].get("code"), each["error"]["param"]) for each in refusals] == [
        ("url_invalid", "url"),
        (None, "enabled_events[1]"),
        (None, "enabled_events"),
        (None, "api_version"),
        ("parameter_unknown", "secret"),
        ("parameter_missing", "id"),
    ]
    shown = ok(raw.get(f"/v1/webhook_endpoints/we_{name}"))
    assert ok(raw.get("/v1/webhook_endpoints"))["data"] == [shown]
    assert (shown["status"], shown["api_version"]) == ("disabled", "2024-06-20")
    assert shown["metadata"] == {"a": "1"}
    assert ok(operator.get(f"/webhooks/endpoints/we_{name}"))["ordered"] is True
    results = import_lines(operator, full)
    assert [result.get("changed", False) for result in results] == [True] * 15 + [False] * 5
    assert "maximum of 16" in results[15]["error"]["message"]


def test_event_destinations_are_imported_and_exported_as_they_are(
    operator: InternalClient, raw: Caller, service: Service, account: Account, name: str
) -> None:
    line = {
        "op": "webhook_endpoint",
        "id": f"ed_{name}",
        "url": "https://hooks.example.com/elsewhere",
        "enabled_events": ["v1.charge.captured", "*"],
        "name": "Books",
        "event_payload": "thin",
        "events_from": ["@self", "@accounts"],
        "disabled": True,
        "metadata": {"a": "1"},
        "ordered": True,
    }
    bad = [
        line | {"id": "ed_a", "enabled_events": ["charge.captured"]},
        line | {"id": "ed_b", "event_payload": "snapshot"},
        line | {"id": "ed_c", "api_version": "2024-06-20"},
        line | {"id": "ed_d", "connect": True},
        line | {"id": "ed_e", "events_from": ["@organization_members"]},
        {member: value for member, value in line.items() if member != "name"} | {"id": "ed_f"},
    ]
    differing = [line | {"name": "Other"}, line | {"events_from": ["@self"]}]
    first, again, *results = import_lines(operator, [line, line, *differing, *bad])
    assert (first["changed"], again["changed"]) == (True, False)
    assert [result["error"]["param"] for result in results] == [
        "name", "events_from", "enabled_events[0]", "enabled_events[0]", "snapshot_api_version", "connect",
        "events_from[0]", "event_payload",
    ]  # fmt: skip
    shown = ok(raw.get(f"/v2/core/event_destinations/ed_{name}"))
    assert (shown["name"], shown["event_payload"], shown["status"]) == ("Books", "thin", "disabled")
    assert shown["events_from"] == ["@self", "@accounts"]
    assert ok(raw.get("/v1/webhook_endpoints"))["data"] == []
    exported = service.run_command("export", "-", "--account", account.id, "--unseal")
    assert [json.loads(each) for each in exported.splitlines()] == [line]


def test_results_come_while_the_input_is_still_sent(operator: InternalClient, name: str) -> None:
    def lines() -> Iterator[bytes]:
        for number in range(20):
            yield json.dumps({"op": "customer", "id": f"cus_{name}{number}"}).encode() + b"\n"
            time.sleep(0.02)

    with operator.http.stream(
        "POST", "/internal/v1/import", content=lines(), headers={"authorization": f"Bearer {operator.key}"}
    ) as answer:
        assert [json.loads(line)["line"] for line in answer.iter_lines()] == list(range(1, 21))


def test_it_needs_both_scopes(http: httpx.Client, account: Account, registrar: Registrar) -> None:
    for scope in ("catalog", "network"):
        key = registrar.key(account.id, "rk", scopes=[scope])[1]
        answer = http.post("/internal/v1/import", content=b"", headers={"authorization": f"Bearer {key}"})
        assert_refused(answer, 403, code="more_permissions_required")


def test_a_client_may_send_everything_before_it_reads(operator: InternalClient) -> None:
    """More results than the network buffers hold: the service keeps them until the client reads."""
    results = import_lines(operator, [b"{}"] * 60_000)
    assert [result["line"] for result in results] == list(range(1, 60_001))


def test_two_concurrent_imports_of_the_same_lines_change_each_object_once(
    operator: InternalClient, name: str
) -> None:
    """Groups conflict and are decided again; no line is lost or applied twice."""
    lines = [line for number in range(100) for line in create_story(f"{name}{number}")]
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: import_lines(operator, lines), range(2))
    assert [result["id"] for result in one] == [result["id"] for result in other]
    assert all(mine["changed"] != theirs["changed"] for mine, theirs in zip(one, other, strict=True))


def test_known_and_new_lines_may_be_mixed(operator: InternalClient, name: str) -> None:
    known = [line for number in range(0, 60, 2) for line in create_story(f"{name}{number}")]
    import_lines(operator, known)
    lines = [line for number in range(60) for line in create_story(f"{name}{number}")]
    results = import_lines(operator, lines)
    assert [result["changed"] for result in results] == [line not in known for line in lines]


def test_lines_share_commits(operator: InternalClient, name: str) -> None:
    lines = [{"op": "customer", "id": f"cus_{name}{number}", "name": "Ada"} for number in range(4000)]
    before = read_commit_count(operator)
    assert all(result.get("changed") for result in import_lines(operator, lines))
    assert (
        read_commit_count(operator) - before < 400
    )  # at least ten lines a commit, and the commits of other tests


def read_commit_count(operator: InternalClient) -> float:
    found = re.search(
        r"^ledger_append_seconds_count (\S+)$", operator.http.get("/metrics").text, re.MULTILINE
    )
    assert found is not None
    return float(found[1])

"""The tree over HTTP: whatever an SDK has made can be proven by a client that has only the answers."""

from __future__ import annotations

import time
from base64 import b64decode
from typing import Any

import httpx
import pytest
import stripe

from ledger.tlog.checkpoints import Checkpoint, open_checkpoint
from ledger.tlog.keys import VerifierKey
from ledger.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    check_consistency,
    check_inclusion,
    hash_leaf,
)
from ledger.tlog.policies import parse_policy
from ledger.tlog.proof_files import parse_proof_file, verify_proof_file
from ledger.tlog.tiles import tile_path
from tests.api.service import Account, Registrar
from tests.internal.conftest import InternalClient
from tests.tlog.logs import list_tiles

WAIT_SECONDS = 60


def get_sealed(caller: InternalClient, path: str) -> httpx.Response:
    """The answer once what the path names is sealed."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (response := caller.get(path)).status_code == 409:
        assert response.json()["error"]["code"] == "not_sealed_yet"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert response.status_code == 200, response.text
    return response


def list_log_keys(caller: InternalClient) -> list[VerifierKey]:
    return [VerifierKey.parse(each["key"]) for each in caller.get("/audit/keys").json()["data"]]


def open_signed(caller: InternalClient, note: str) -> Checkpoint:
    return open_checkpoint(note, *list_log_keys(caller))


def refuse(caller: InternalClient, path: str) -> tuple[int, str | None]:
    """Status and parameter of a refusal."""
    response = caller.get(path)
    return response.status_code, response.json()["error"].get("param")


@pytest.fixture
def event(client: stripe.StripeClient) -> Any:
    """The Event of a customer that the SDK has made."""
    made = client.v1.customers.create(params={"email": "ada@example.com"})
    [event] = client.v1.events.list(params={"type": "customer.created", "limit": 1}).data
    assert event.data.object["id"] == made.id
    return event


def test_an_event_is_proven_by_its_id(operator: InternalClient, event: Any) -> None:
    proof = get_sealed(operator, f"/audit/proof/inclusion?event={event.id}").json()
    root, hashes = b64decode(proof["root"]), [b64decode(each) for each in proof["hashes"]]
    check_inclusion(b64decode(proof["leaf_hash"]), proof["index"], proof["size"], hashes, root)
    assert proof["index"] == proof["position"] - 1
    same = operator.get(f"/audit/proof/inclusion?position={proof['position']}&size={proof['size']}").json()
    assert same["hashes"] == proof["hashes"]
    newest = get_sealed(operator, "/audit/checkpoint")
    assert newest.headers["content-type"] == "text/plain; charset=utf-8"
    signed = open_signed(operator, newest.text)
    link = operator.get(f"/audit/proof/consistency?from={proof['size']}&to={signed.size}").json()
    between = [b64decode(each) for each in link["hashes"]]
    check_consistency(proof["size"], root, signed.size, signed.root, between)


def test_a_proof_file_shows_offline_what_was_recorded(operator: InternalClient, event: Any) -> None:
    response = get_sealed(operator, f"/audit/proof/{event.id}.tlog-proof")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    proof = parse_proof_file(response.text)
    key, *_ = list_log_keys(operator)
    policy = parse_policy(f"log {key}\nquorum none\n".encode())
    assert verify_proof_file(proof, None, policy).checkpoint.origin == key.name
    assert proof.extra is not None
    assert event.data.object["id"].encode() in proof.extra
    assert b"ada@example.com" not in proof.extra
    by_position = get_sealed(operator, f"/audit/proof/{proof.index + 1}.tlog-proof")
    assert parse_proof_file(by_position.text).extra == proof.extra
    with pytest.raises(ProofError):
        verify_proof_file(proof, hash_leaf(b"another"), policy)


def test_the_tree_follows_from_its_tiles_and_these_from_its_entries(
    operator: InternalClient, event: Any
) -> None:
    get_sealed(operator, f"/audit/proof/inclusion?event={event.id}")
    signed = open_signed(operator, operator.get("/audit/checkpoint").text)
    frontier = Frontier()
    for tile in list_tiles(signed.size):
        if tile.level != 0:
            continue
        leaves = operator.get(f"/audit/{tile_path(0, tile.number, tile.width)}")
        bundle = operator.get(f"/audit/{tile_path(None, tile.number, tile.width)}").content
        assert leaves.headers["cache-control"] == "private, max-age=31536000, immutable"
        entries = [bundle[begin : begin + 34] for begin in range(0, len(bundle), 34)]
        assert {entry[:2] for entry in entries} == {b"\x00\x20"}
        hashes = [hash_leaf(entry[2:]) for entry in entries]
        assert b"".join(hashes) == leaves.content
        assert len(hashes) == tile.width
        for leaf_hash in hashes:
            frontier.append(leaf_hash)
    assert frontier.root == signed.root


def test_other_accounts_records_are_missing(
    operator: InternalClient, event: Any, http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    position = get_sealed(operator, f"/audit/proof/inclusion?event={event.id}").json()["position"]
    stranger = registrar.account()
    for key in (
        registrar.key(stranger.id, "rk", scopes=["audit"])[1],
        registrar.key(account.id, "rk", livemode=True, scopes=["audit"])[1],
    ):
        other = InternalClient(http, key)
        assert refuse(other, f"/audit/proof/inclusion?event={event.id}") == (404, "event")
        assert refuse(other, f"/audit/proof/inclusion?position={position}") == (404, "position")
        for subject in (event.id, position):
            assert refuse(other, f"/audit/proof/{subject}.tlog-proof") == (404, "id")
    without_scope = InternalClient(http, registrar.key(account.id, "rk", scopes=["catalog"])[1])
    assert without_scope.get("/audit/checkpoint").status_code == 403


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/audit/proof/inclusion", (400, "position")),
        ("/audit/proof/inclusion?position=1&event=evt_1", (400, "position")),
        ("/audit/proof/inclusion?position=0", (400, "position")),
        ("/audit/proof/inclusion?position=999999999999", (400, "position")),
        ("/audit/proof/inclusion?position=1&size=999999999999", (400, "size")),
        ("/audit/proof/inclusion?event=evt_1", (404, "event")),
        ("/audit/proof/inclusion?event={event}&size=1", (400, "size")),
        ("/audit/proof/consistency?from=3&to=2", (400, "from")),
        ("/audit/proof/consistency?from=999999999999", (400, "from")),
        ("/audit/proof/consistency?from=1&to=999999999999", (400, "to")),
        ("/audit/proof/consistency", (400, "from")),
        ("/audit/proof/999999999999.tlog-proof", (400, "id")),
        ("/audit/proof/99999999999999999999999.tlog-proof", (400, "id")),
        ("/audit/proof/evt_1.tlog-proof", (404, "id")),
        ("/audit/checkpoint?size=999999999999", (404, "size")),
        ("/audit/tile/0/1", (400, "path")),
        ("/audit/tile/x", (400, "path")),
        ("/audit/tile/entries/000.p/256", (400, "path")),
        ("/audit/tile/0/x999/999", (404, "path")),
        ("/audit/tile/63/000", (404, "path")),
        ("/audit/tile/entries/x999/x999/x999/x999/x999/x999/x999/999", (404, "path")),
        ("/audit/tile/0/000?size=1", (400, "size")),
        ("/audit/verify?from=1", (400, "from")),
        ("/audit/verify?from=256&to=2", (400, "from")),
        ("/audit/verify?from=1073741824", (400, "from")),
        ("/audit/verify?to=999999999999", (400, "to")),
    ],
)
def test_what_cannot_be_answered_names_the_parameter(
    operator: InternalClient, event: Any, path: str, expected: tuple[int, str]
) -> None:
    get_sealed(operator, f"/audit/proof/inclusion?event={event.id}")
    assert refuse(operator, path.format(event=event.id)) == expected


def test_kept_checkpoints_are_paged_and_found_by_size(operator: InternalClient, event: Any) -> None:
    get_sealed(operator, f"/audit/proof/inclusion?event={event.id}")
    first, *_ = page = operator.get("/audit/checkpoints?limit=1").json()["data"]
    assert len(page) == 1
    assert operator.get(f"/audit/checkpoint?size={first['size']}").text == first["checkpoint"]
    assert open_signed(operator, first["checkpoint"]).size == first["size"]
    older = operator.get(f"/audit/checkpoints?starting_after={first['size']}").json()["data"]
    assert all(each["size"] < first["size"] for each in older)


def test_the_proof_from_the_empty_tree_is_empty(operator: InternalClient, event: Any) -> None:
    get_sealed(operator, f"/audit/proof/inclusion?event={event.id}")
    answer = operator.get("/audit/proof/consistency?from=0").json()
    assert (answer["hashes"], b64decode(answer["from_root"])) == ([], EMPTY_ROOT)


def test_the_log_is_verified_over_http_by_who_may_audit(
    operator: InternalClient, event: Any, http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    position = get_sealed(operator, f"/audit/proof/inclusion?event={event.id}").json()["position"]
    answer = get_sealed(operator, "/audit/verify").json()
    assert (answer["ok"], answer["differences"], answer["from"], answer["next"]) == (True, [], 0, None)
    assert answer["records"] == answer["to"] == answer["size"] >= position
    assert answer["checkpoints"] >= 1
    part = get_sealed(operator, f"/audit/verify?to={position}").json()
    assert (part["to"], part["ok"], part["next"]) == (position, True, None)
    accesses = operator.get("/audit/accesses?limit=5").json()["data"]
    recorded = next(each for each in accesses if each["action"] == "GET /internal/v1/audit/verify")
    assert recorded["parameters"] == {"to": str(position)}
    without_scope = InternalClient(http, registrar.key(account.id, "rk", scopes=["feed"])[1])
    assert without_scope.get("/audit/verify").status_code == 403
    assert without_scope.get("/audit/witnesses").status_code == 403


def test_a_log_without_witnesses_lists_none(operator: InternalClient) -> None:
    answer = operator.get("/audit/witnesses").json()
    assert (answer["data"], answer["has_more"]) == ([], False)


def test_health_and_metrics_show_the_tree(operator: InternalClient, http: httpx.Client, event: Any) -> None:
    get_sealed(operator, f"/audit/proof/inclusion?event={event.id}")
    sealing = http.get("/readyz").json()["sealing"]
    assert sealing["error"] is None
    assert sealing["size"] > 0
    metrics = http.get("/metrics").text
    for name in ("ledger_tree_size", "ledger_unsealed_events", "ledger_unsealed_seconds"):
        assert f"\n{name} " in metrics

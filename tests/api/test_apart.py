"""Accounts, and test and live data, are isolated from each other (contract §1.2). Checked for every
operation in the service's OpenAPI document, wherever its path or a parameter has the id of an object.

The rule is the same for all operations: an object of another account is answered like one that does not
exist. A new operation is covered without a change here; a new kind of object must be added to
`_create_objects`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from ledger.accounts import INTERNAL_SCOPES
from ledger.domain.evidence import FILE_FIELDS
from ledger.wire.published_types import PUBLISHED_TYPES
from tests.api.service import PREVIEW, Account, Caller, Registrar, assert_refused, ok
from tests.webhooks.receiver import wait_until

HINT = re.compile(
    r"; a similar object exists in (test|live) mode, but a (live|test) mode key was used to make "
)
NAME = "Nobody else may read this"
JOBS = "/v1/privacy/redaction_jobs"
REQUIRED_PARAMETERS: dict[tuple[str, str], dict[str, str]] = {
    ("post", "/v1/charges"): {"amount": "2000", "currency": "usd"},
    ("post", "/v1/customer_sessions"): {"components[buy_button][enabled]": "true"},
    ("post", "/v1/payment_intents"): {"amount": "2000", "currency": "usd"},
}
"""Parameters that an operation requires beside the one under test."""
BODIES: dict[str, Any] = {
    "/internal/v1/disputes/{id}/facts": {"fact": "won"},
    "/internal/v1/keys/{id}/roll": {},
}


PUBLISHED_SAMPLE = {
    "checkout.session", "coupon", "customer_balance_transaction", "customer_cash_balance_transaction",
    "invoice", "payout", "radar.value_list_item", "subscription",
    "subscription_item", "tax_id",
}  # fmt: skip
"""One code serves all types of published objects: these have each of its variants."""


class Side(NamedTuple):
    """An account in one mode: callers with its secret key and with an operator's key, and an object of each
    kind; `published` are those of other services."""

    raw: Caller
    operator: Caller
    objects: dict[str, str]
    published: dict[str, str]

    @property
    def ids(self) -> dict[str, str]:
        return self.objects | self.published


def _side(http: httpx.Client, registrar: Registrar, account: Account, *, livemode: bool) -> Side:
    raw = Caller(http, account.live_secret if livemode else account.secret, PREVIEW)
    operator = Caller(http, registrar.key(account.id, "rk", livemode=livemode, scopes=INTERNAL_SCOPES)[1])
    objects = _create_objects(raw, operator, livemode=livemode)
    objects |= {"account": account.id, "capability": "transfers"}
    return Side(raw, operator, objects, _publish_objects(operator, objects["customer"]))


def _publish_objects(operator: Caller, customer: str) -> dict[str, str]:
    """Ids of new objects of other services, one of each type, by the name that paths use for the type."""
    ids = {}
    for row in PUBLISHED_TYPES:
        if row.object_type not in PUBLISHED_SAMPLE:
            continue
        ids[row.permission] = f"x_{uuid.uuid4().hex}"
        members = {"name": NAME, "customer": customer}
        members |= {each.name: "x" for each in row.filters if each.required}
        ok(
            operator.http.put(
                f"/internal/v1/resources/{row.object_type}/{ids[row.permission]}",
                json={"event_type": "product.created", "object": members},
                headers={"authorization": f"Bearer {operator.key}"},
            )
        )
    return ids


def _create_objects(raw: Caller, operator: Caller, *, livemode: bool) -> dict[str, str]:
    """Ids of new objects, one of each kind, by the name that paths and parameters use for the kind."""

    def ingest(path: str, **body: Any) -> Any:
        headers = {"authorization": f"Bearer {operator.key}"}
        return ok(operator.http.post(f"/internal/v1/{path}", json=body, headers=headers))

    card = {} if livemode else {"source": "tok_visa"}
    customer = ingest("customers", name=NAME, **card)
    elsewhere = f"pi_{uuid.uuid4().hex}"
    charge = ingest("charges", amount=2000, currency="usd", description=NAME, payment_intent=elsewhere)
    amount = {"amount": 2000, "currency": "usd", "description": NAME}
    intent = ok(raw.post("/v1/payment_intents", amount))["id"]
    upload = {"purpose": "dispute_evidence"}
    headers = {"authorization": f"Bearer {raw.key}"}
    content = {"file": (NAME, b"\x89PNG\r\n\x1a\n")}
    file = ok(raw.http.post("/v1/files", files=content, data=upload, headers=headers))["id"]
    ok(
        raw.post(
            "/v1/customer_sessions", {"customer": customer["id"], "components[buy_button][enabled]": "true"}
        )
    )
    (session,) = ok(operator.get(f"/internal/v1/customer_sessions?customer={customer['id']}"))["data"]
    objects = {
        "customer": customer["id"],
        "charge": charge["id"],
        "payment_intent": intent,
        "dispute": ingest("disputes", charge=charge["id"], kind="inquiry", amount=500)["id"],
        "refund": ok(raw.post("/v1/refunds", {"charge": charge["id"], "amount": 100}))["id"],
        "balance_transaction": charge["balance_transaction"],
        "file": file,
        "link": ok(raw.post("/v1/file_links", {"file": file}))["id"],
        "customer_session": session["id"],
        "key": ingest("keys", name=NAME)["id"],
        "event": raw.events()[0]["id"],
    }
    objects |= _fail_redaction_job(raw, charge["id"])
    hook = {"url": "https://example.com/hook", "enabled_events[0]": "account.updated"}
    made = raw.post("/v1/webhook_endpoints", hook)
    if made.status_code == 200:
        objects["webhook_endpoint"] = made.json()["id"]
    if livemode:
        return objects
    card = customer["default_source"]
    return objects | {"default_source": card, "source": card, "payment_method": card}


def _fail_redaction_job(raw: Caller, charge: str) -> dict[str, str]:
    """Ids of a redaction job of a charge with an open dispute, and of its validation error."""
    job = ok(raw.post(JOBS, {"objects[charges][0]": charge}))["id"]
    errors = wait_until(lambda: ok(raw.get(f"{JOBS}/{job}"))["validation_errors"]["data"])
    return {"job": job, "error": errors[0]["id"]}


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> Any:
    """The API description, of the published types only with those of PUBLISHED_SAMPLE."""
    document = http.get("/openapi.json").json()
    left_out = [row.url for row in PUBLISHED_TYPES if row.path and row.object_type not in PUBLISHED_SAMPLE]
    document["paths"] = {
        path: entry
        for path, entry in document["paths"].items()
        if not any(path == url or path.startswith(url + "/") for url in left_out)
    }
    return document


@pytest.fixture(scope="module", params=["test", "live"])
def owner_livemode(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "live")


@pytest.fixture(scope="module")
def owned(http: httpx.Client, registrar: Registrar, owner_livemode: bool) -> dict[str, Side]:
    """The owner, whose account is connected to a platform, and three sides that must not reach its
    objects."""
    platform = registrar.account()
    account = registrar.account(platform=platform.id)
    return {
        "owner": _side(http, registrar, account, livemode=owner_livemode),
        "other mode": _side(http, registrar, account, livemode=not owner_livemode),
        "stranger": _side(http, registrar, registrar.account(), livemode=owner_livemode),
        "platform": _side(http, registrar, platform, livemode=owner_livemode),
    }


def _operations(document: Any, prefix: str) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, entry in methods.items():
            if path.startswith(prefix):
                yield method, path, entry


CARDS = {"default_source", "source", "payment_method"}
"""Names for the id of a card. There are none in live mode."""


def _kinds(path: str) -> list[str]:
    """The kinds of objects whose ids are in the path."""
    return re.findall(r"\{(\w+)\}", path)


def _kind(path: str) -> str | None:
    """The kind of object whose id is in the path, as its target."""
    return next(iter(_kinds(path)), None)


def _fill(path: str, objects: dict[str, str]) -> str:
    """The path with the ids of these objects; a card has an id that no card has if there is none."""
    return re.sub(r"\{(\w+)\}", lambda kind: objects.get(kind[1], "card_x"), path)


def _add_required(path: str, entry: Any) -> str:
    """The path with a value for each query parameter that the operation requires."""
    required = [
        each["name"] for each in entry.get("parameters", ()) if each.get("in") == "query" and each["required"]
    ]
    return path + "".join(f"{'&' if number else '?'}{name}=x" for number, name in enumerate(required))


def _listed(path: str, document: Any) -> str | None:
    """The kind of object that a list's cursors are ids of."""
    for each in document["paths"]:
        collection, _, last = each.rpartition("/")
        if collection.rpartition("/")[2] == path.rpartition("/")[2] and last.startswith("{"):
            return _kind(last)
    return None


def _references(method: str, path: str, entry: Any, document: Any) -> Iterator[tuple[str, str]]:
    """Parameters whose value is an object's id, with the kind of the object."""
    if method == "post":
        (content,) = entry["requestBody"]["content"].values()
        names = list(content["schema"]["properties"])
    else:
        names = [each["name"] for each in entry["parameters"] if each.get("in") == "query"]
    for name in names:
        match name:
            case "starting_after" | "ending_before":
                if (kind := _listed(path, document)) is not None:
                    yield name, kind
            case "source":
                yield name, "default_source" if method == "post" else "charge"
            case "evidence":
                yield from ((f"evidence[{field}]", "file") for field in sorted(FILE_FIELDS))
                yield "evidence[appeal][card][supporting_files][0]", "file"
            case "file" if path == "/v1/files":
                pass  # the bytes themselves
            case "customer" | "charge" | "payment_intent" | "file" | "default_source":
                yield name, name


def _unknown_id(object_id: str) -> str:
    """An id of the same form that no object has."""
    return object_id[:-8] + "nothing0"


def _assert_answered_as_unknown(
    side: Side, method: str, path: str, form: dict[str, str], object_id: str
) -> None:
    """Assert that `object_id`, in path or form, is answered like an id that does not exist."""
    here, nowhere = (
        side.raw.call(
            method.upper(),
            path.replace(object_id, each),
            {name: value.replace(object_id, each) for name, value in form.items()} or None,
        )
        for each in (object_id, _unknown_id(object_id))
    )
    case = (method, path, form, here.text)
    assert NAME not in here.text, case
    assert here.status_code == nowhere.status_code, case
    text = HINT.sub("", here.text).replace("this request.", "").replace(object_id, "X")
    assert text == nowhere.text.replace(_unknown_id(object_id), "X"), case
    body = here.json()
    assert body.get("data") == [] or body["error"].get("code") == "resource_missing", case


def _snapshot(side: Side, document: Any) -> dict[str, Any]:
    read = {}
    for method, path, _ in _operations(document, "/v1/"):
        # No call of the public API changes a published object.
        if method == "get" and set(_kinds(path)) & (side.objects.keys() | CARDS):
            concrete = _fill(path, side.ids)
            read[concrete] = side.raw.get(concrete).content
    return read


INTRUDERS = ["stranger", "other mode", "platform"]


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_an_id_in_the_path_names_an_object_of_the_account_and_mode(
    owned: dict[str, Side], document: Any, intruder: str
) -> None:
    owner, side = owned["owner"], owned[intruder]
    before = _snapshot(owner, document)
    tried = 0
    for method, path, _ in _operations(document, "/v1/"):
        for kind in _kinds(path):
            if kind in ("account", "capability"):
                continue  # an account out of reach is forbidden: test_accounts
            assert kind in owner.ids.keys() | CARDS, f"{path}: create a {kind} in _create_objects"
            if (object_id := owner.ids.get(kind)) is None:
                continue  # no card in live mode
            concrete = _fill(path, side.ids | {kind: object_id})
            _assert_answered_as_unknown(side, method, concrete, {}, object_id)
            tried += 1
    assert tried > 20
    assert _snapshot(owner, document) == before


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_an_id_in_a_parameter_names_an_object_of_the_account_and_mode(
    owned: dict[str, Side], document: Any, intruder: str
) -> None:
    owner, side = owned["owner"], owned[intruder]
    before = _snapshot(owner, document)
    tried = set()
    for method, path, entry in _operations(document, "/v1/"):
        for name, kind in _references(method, path, entry, document):
            if kind == "account":
                continue  # a platform sees it
            concrete = _fill(path, side.ids)
            if kind not in owner.ids:
                assert kind in CARDS, f"{path}: {name} names a {kind}, of which there is none"
                continue  # no card in live mode
            object_id = owner.ids[kind]
            form = {**REQUIRED_PARAMETERS.get((method, path), {}), name: object_id}
            if method == "get":
                concrete = _add_required(concrete, entry)
                concrete, form = f"{concrete}{'&' if '?' in concrete else '?'}{name}={object_id}", {}
            _assert_answered_as_unknown(side, method, concrete, form, object_id)
            tried.add((path, name))
    assert len(tried) > 40
    assert _snapshot(owner, document) == before


@pytest.mark.parametrize("intruder", INTRUDERS)
def test_internal_calls_reach_no_further(
    owned: dict[str, Side], owner_livemode: bool, document: Any, intruder: str
) -> None:
    """With every scope, and with the id of every kind of object in every path."""
    owner, side = owned["owner"], owned[intruder]
    before = _snapshot(owner, document)
    tried = 0
    for method, path, _ in _operations(document, "/internal/v1/"):
        if _kind(path) is None:
            continue
        for kind, object_id in owner.objects.items():
            if kind == "key" and (
                intruder == "platform" or (intruder == "other mode" and not owner_livemode)
            ):
                continue  # a platform manages the keys of its accounts, a live-mode key those of both modes
            concrete = re.sub(r"\{\w+\}", object_id, path)
            answer = side.operator.http.request(
                method,
                concrete,
                json=BODIES.get(path),
                headers={"authorization": f"Bearer {side.operator.key}"},
            )
            assert 400 <= answer.status_code < 500, (method, concrete, answer.text)
            assert NAME not in answer.text, (method, concrete)
            tried += 1
    assert tried > 30
    assert _snapshot(owner, document) == before


def test_a_platform_reads_what_its_connected_account_reads(
    owned: dict[str, Side], owner_livemode: bool, document: Any, registrar: Registrar
) -> None:
    """Contract §7.14, for each read: with Stripe-Account, the answer is the one that the account itself
    gets, and the response repeats the header. Events then have a member `account` as well."""
    owner, platform = owned["owner"], owned["platform"]
    account = ok(owner.operator.get("/internal/v1/accounts"))["data"][0]["id"]
    for method, path, entry in _operations(document, "/v1/"):
        if method != "get" or path == "/v1/elements/sessions":
            continue
        if owner_livemode and ("payment_methods" in path or "sources" in path):
            continue  # no card in live mode
        kind = _kind(path)
        concrete = _add_required(_fill(path, owner.ids), entry)
        own, acted = owner.raw.get(concrete), platform.raw.get(concrete, stripe_account=account)
        assert own.status_code == acted.status_code == 200, (concrete, acted.text)
        assert acted.headers["stripe-account"] == account
        if path.startswith("/v1/events"):
            expected = own.json()
            for event in expected.get("data", [expected]) if not kind else [expected]:
                event["account"] = account
            assert acted.json() == expected
        else:
            assert acted.content == own.content
        if kind != "account" and path != "/v1/balance":  # equal amounts; tests/api/test_funds.py
            assert platform.raw.get(concrete).content != own.content


def test_an_event_of_the_other_mode_is_missing_with_a_hint(raw: Caller, live: Caller) -> None:
    raw.customer()
    (event,) = raw.events()
    assert_refused(
        live.get(f"/v1/events/{event['id']}"),
        404,
        code="resource_missing",
        param="id",
        message=f"^No such event: '{event['id']}'; a similar object exists in test mode, but a live mode key "
        r"was used to make this request\.$",
    )
    assert_refused(live.get("/v1/events/evt_x"), 404, code="resource_missing", param="id", message="'evt_x'$")

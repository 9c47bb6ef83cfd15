"""Reads all that a service answers about a person: every object, list, Event, question to the past, export.

Each answer has a name, so that a test can say which one showed something.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from tests.api.service import ok
from tests.erasure.forms import unpack
from tests.erasure.stage import PREVIEW, Stage
from tests.erasure.traces import Traces, send_again

EXPANSIONS = {
    "charges": ("customer", "balance_transaction.source", "refunds", "payment_intent"),
    "customers": ("sources", "default_source.customer"),
    "disputes": ("charge.customer", "balance_transactions.source", "evidence.receipt", "payment_intent"),
    "file_links": ("file",),
    "files": ("links.data.file",),
    "invoices": ("customer",),
    "payment_intents": ("latest_charge.customer", "customer"),
    "refunds": ("charge.customer", "balance_transaction"),
}
BELOW_CUSTOMER = ("sources", "payment_methods")
PAGES_MAX = 50


class Answer(NamedTuple):
    """`name` says what was asked, with method and path."""

    name: str
    status: int
    body: bytes


def read_public(traces: Traces) -> Iterator[Answer]:
    """All objects of a person by the public API, alone and expanded, in a version and a preview; lists."""
    stage = traces.stage
    for plural, ids in traces.ids.items():
        expansions = EXPANSIONS.get(plural, ())
        expand = "&".join(f"expand[]={name}" for name in expansions)
        for object_id in ids:
            yield from (_get(stage, f"/v1/{plural}/{object_id}{query}") for query in ("", f"?{expand}"))
            yield _get(stage, f"/v1/{plural}/{object_id}?{expand}", **PREVIEW)
        listed = "&".join(f"expand[]=data.{name}" for name in expansions if name.count(".") < 3)
        for path in _list_paths(traces, plural):
            yield from _read_pages(stage, f"{path}{'&' if '?' in path else '?'}{listed}")
    if not traces.is_guest:
        yield from (_get(stage, f"/v1/customers/{traces.customer}/{part}") for part in BELOW_CUSTOMER)
    for charge in traces.ids["charges"]:
        yield _get(stage, f"/v1/charges/{charge}/refunds")
    for file in traces.ids["files"]:
        yield _get(stage, f"/v1/files/{file}/contents")
    for link in traces.ids["file_links"]:
        url = ok(stage.raw.get(f"/v1/file_links/{link}"))["url"]
        if url:
            response = stage.http.get(httpx.URL(url).raw_path.decode())
            yield Answer(f"link of {link}", response.status_code, response.content)
    yield from _read_pages(stage, "/v1/balance_transactions?expand[]=data.source")


def _list_paths(traces: Traces, plural: str) -> list[str]:
    paths = [f"/v1/{plural}"]
    if traces.is_guest:
        return paths
    if plural in ("charges", "payment_intents", "invoices", "checkout/sessions"):
        paths.append(f"/v1/{plural}?customer={traces.customer}")
    if plural == "customers":
        paths.append(f"/v1/customers?email={traces.mark('customer email')}@example.com")
    return paths


def read_events(traces: Traces) -> Iterator[Answer]:
    """All Events of the account: lists, each by its id, thin ones, and the feed by position."""
    stage = traces.stage
    for page in _read_pages(stage, "/v1/events"):
        yield page
        for event in httpx.Response(200, content=page.body).json()["data"]:
            yield _get(stage, f"/v1/events/{event['id']}")
    version = {"stripe-version": "2026-10-28.endive"}
    yield _get(stage, "/v2/core/events?limit=100", **version)
    yield _ask(stage, "/feed?after=0&limit=10000")


def read_audit(traces: Traces) -> Iterator[Answer]:
    """What the log and the operators' routes tell about each object of a person, now and at each change."""
    stage = traces.stage
    yield _ask(stage, "/audit/export")
    for path in ("/audit/accesses", "/requests", "/requests/groups", "/audit/trial_balance"):
        yield _ask(stage, path)
    yield _ask(stage, "/disputes")
    if not traces.is_guest:
        yield _ask(stage, f"/audit/find?q={traces.mark('customer email')}@example.com")
        yield _ask(stage, f"/customer_sessions?customer={traces.customer}")
    for plural, ids in traces.ids.items():
        for object_id in ids:
            yield from _read_past(stage, object_id)
        if "/" not in plural and plural not in ("events", "invoices"):
            yield _ask(stage, f"/audit/objects?type={plural.removesuffix('s')}")
    for delivery in ok(stage.operator.get("/webhooks/deliveries?limit=100"))["data"]:
        yield _ask(stage, f"/webhooks/deliveries/{delivery['id']}")


def _read_past(stage: Stage, object_id: str) -> Iterator[Answer]:
    history = _ask(stage, f"/audit/objects/{object_id}/history?limit=100")
    yield history
    yield _ask(stage, f"/audit/find?q={object_id}")
    yield _ask(stage, f"/audit/log?object={object_id}&limit=100")
    if history.status != 200:
        return
    positions = [each["position"] for each in httpx.Response(200, content=history.body).json()["data"]]
    for position in positions:
        yield _ask(stage, f"/audit/objects/{object_id}?at=position:{position}")
        yield _ask(stage, f"/audit/log/{position}")
    first, last = f"position:{min(positions)}", f"position:{max(positions)}"
    yield _ask(stage, f"/audit/objects/{object_id}/diff?from={first}&to={last}")
    yield _ask(stage, f"/audit/proof/{max(positions)}.tlog-proof")


def read_steps(traces: Traces) -> Iterator[Answer]:
    """How each projection made the rows of a person's objects."""
    stage = traces.stage
    for each in ok(stage.operator.get("/projections"))["data"]:
        for object_id in (*traces.ids.get("customers", []), *traces.ids["charges"], *traces.ids["disputes"]):
            yield _ask(stage, f"/projections/{each['name']}/step?stream={object_id}&after=0")


def repeat_requests(traces: Traces) -> Iterator[Answer]:
    """The kept answer of each request of the person, by its idempotency key. One whose parameters were
    refused has none: it is refused again, in words of what has just been sent."""
    for request in traces.sent:
        response = send_again(traces.stage, request)
        assert response.status_code == request.status, (request, response.text)
        assert response.json().get("id") == request.object_id
        if response.headers.get("idempotent-replayed") != "true":
            assert request.status == 400, (request, response.text)
            continue
        yield Answer(f"POST {request.path} again", response.status_code, response.content)


def read_all(traces: Traces) -> list[Answer]:
    """Everything. Nothing fails, nothing times out."""
    answers = [
        *read_public(traces),
        *read_events(traces),
        *read_audit(traces),
        *read_steps(traces),
        *repeat_requests(traces),
    ]
    failed = [answer for answer in answers if answer.status >= 500]
    assert not failed, failed[:3]
    return answers


def find_shown(answers: list[Answer], traces: Traces) -> dict[str, set[str]]:
    """The places whose marks are shown, with the names of the answers that show them."""
    shown: dict[str, set[str]] = {}
    for answer in answers:
        contents = [answer.body, *(inner for _, inner in unpack(answer.body))]  # a PDF compresses its pages
        for place in set().union(*map(traces.person.find_places, contents)):
            shown.setdefault(place, set()).add(answer.name)
    return shown


def _get(stage: Stage, path: str, **headers: str) -> Answer:
    response = stage.raw.call(
        "GET", path, headers={name.replace("_", "-"): each for name, each in headers.items()}
    )
    return Answer(f"GET {path}", response.status_code, response.content)


def _ask(stage: Stage, path: str) -> Answer:
    response = stage.operator.get(path)
    return Answer(f"GET /internal/v1{path}", response.status_code, response.content)


def _read_pages(stage: Stage, path: str) -> Iterator[Answer]:
    """A list, page by page."""
    after = ""
    for _ in range(PAGES_MAX):
        answer = _get(stage, f"{path}{'&' if '?' in path else '?'}limit=100{after}")
        yield answer
        if answer.status != 200:
            return
        page: Any = httpx.Response(200, content=answer.body).json()
        if not page["has_more"]:
            return
        after = f"&starting_after={page['data'][-1]['id']}"
    raise AssertionError(f"{path} has no end")

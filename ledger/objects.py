"""Aggregates as the public API shows them to a caller: found by id, rendered, expanded.

One lookup for all: an object of another account is missing, one of the other mode is missing with a hint
(CONTRACT 1.2, 1.6), and an id never tells a kind by its prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from ledger.call import Call, Expansion
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.file import LINKS_SHOWN_MAX, File
from ledger.domain.file_link import FileLink
from ledger.domain.imported_event import PastEvent
from ledger.domain.money import BalanceTransaction
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookRoster
from ledger.errors import NotDisputed, UnknownObject, UnknownReference
from ledger.store.codec import State
from ledger.wire import charges, files, refunds, render, resources, webhook_endpoints
from ledger.wire.expansion import ELSEWHERE

Kind = TypeVar(
    "Kind", Customer, Charge, CustomerSession, Dispute, Refund, File, FileLink, WebhookEndpoint, PastEvent
)
Fetch = Callable[[str], Awaitable[State | None]]

_NOUNS: dict[type[State], str] = {
    Customer: "customer",
    Charge: "charge",
    CustomerSession: "customer session",
    Dispute: "dispute",
    File: "file",
    FileLink: "file link",
    Refund: "refund",
    WebhookEndpoint: "webhook endpoint",
}
_PATH_PARAMS = {"dispute": "dispute", "refund": "refund", "webhook endpoint": "webhook_endpoint"}
REFUNDS_SHOWN_MAX = 10


async def addressed(call: Call, kind: type[Kind], fetch: Fetch) -> Kind:
    """The object the path names. Raises UnknownObject."""
    state = await fetch(call.target)
    if isinstance(state, kind) and visible(state, call):
        return state
    noun = _NOUNS[kind]
    raise UnknownObject(
        noun, call.target, param=_PATH_PARAMS.get(noun, "id"), hint=mode_hint(state, kind, call)
    )


async def newest_dispute(call: Call, fetch: Fetch) -> Call:
    """The call on the newest dispute of the charge that the path names, by the routes from when a charge
    had one (CONTRACT 2.2). Raises UnknownObject."""
    charge = await addressed(call, Charge, fetch)
    if not charge.disputes:
        raise NotDisputed(charge.id)
    return replace(call, target=list(charge.disputes)[-1])


async def named(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object the parameter names, a deleted customer counting as missing. Raises UnknownReference."""
    state = await sought(call, kind, param, object_id, fetch)
    if getattr(state, "deleted", False):
        raise UnknownReference(_NOUNS[kind], object_id, param=param)
    return state


async def sought(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object by which a list is filtered, also a deleted customer: what it paid is there (CONTRACT 2.5).
    Raises UnknownReference."""
    state = await fetch(object_id)
    if isinstance(state, kind) and visible(state, call):
        return state
    raise UnknownReference(_NOUNS[kind], object_id, param=param, hint=mode_hint(state, kind, call))


def shown(state: State, now: int) -> dict[str, Any]:
    """The object as it stands, nothing expanded, and no secret told."""
    match state:
        case Customer():
            return render.deleted_customer(state.id) if state.deleted else render.customer(state)
        case Charge():
            return charges.charge(state)
        case Dispute():
            return render.dispute(state, now)
        case Refund():
            return refunds.refund(state)
        case CustomerSession():
            return render.customer_session(state, "")
        case File():
            return files.file(state)
        case FileLink():
            return files.file_link(state, now)
        case WebhookEndpoint():
            if state.deleted:
                return webhook_endpoints.deleted_webhook_endpoint(state.id)
            return webhook_endpoints.webhook_endpoint(state)
        case WebhookRoster():
            return webhook_endpoints.roster(state)
        case Resource():
            return resources.resource(state)
        case PastEvent():
            return resources.past_event(state)


async def expanded(
    state: State, answer: dict[str, Any], tree: Expansion, now: int, fetch: Fetch
) -> dict[str, Any]:
    """`answer`, which shows `state`, with the members of `tree` shown whole (CONTRACT 1.8).

    Null stays null, and so does an id whose object is not kept here (a payment intent). What only another
    kind of source of a balance transaction has is passed over.
    """
    if isinstance(state, File):
        newest = [await fetch(link) for link in state.links[:LINKS_SHOWN_MAX]]
        inner = tree.get("links", {}).get("data", {})
        answer["links"] = files.links(
            state,
            [
                await expanded(link, files.file_link(link, now), inner, now, fetch)
                for link in newest
                if isinstance(link, FileLink)
            ],
        )
    fetch = _of_owner(state, fetch)
    for member, subtree in tree.items():
        match member:
            case "links" if isinstance(state, File):
                pass  # always shown, with what of it was asked for
            case "sources" if isinstance(state, Customer):
                inner = subtree.get("data", {})
                cards = [
                    await _members(charges.card(card, state.id), inner, now, fetch) for card in state.sources
                ]
                answer[member] = _list(cards, f"/v1/customers/{state.id}/sources")
            case "refunds" if isinstance(state, Charge):
                answer[member] = await _refunds(state, subtree.get("data", {}), now, fetch)
            case "default_source" if isinstance(state, Customer):
                card = state.source(state.default_source)
                if card is not None:
                    answer[member] = await _members(charges.card(card, state.id), subtree, now, fetch)
            case "balance_transaction" if isinstance(state, Charge | Refund):
                if state.balance_transaction is not None:
                    fact = state.balance_transaction
                    answer[member] = await transaction_shown(fact, subtree, now, fetch)
            case "balance_transactions" if isinstance(state, Dispute):
                answer[member] = [await _members(each, subtree, now, fetch) for each in answer[member]]
            case _:
                await _members(answer, {member: subtree}, now, fetch)
    return answer


async def transaction_shown(
    fact: BalanceTransaction, tree: Expansion, now: int, fetch: Fetch
) -> dict[str, Any]:
    """A balance transaction with the members of `tree` shown whole."""
    return await _members(render.balance_transaction(fact, now), tree, now, fetch)


async def _members(answer: dict[str, Any], tree: Expansion, now: int, fetch: Fetch) -> dict[str, Any]:
    """`answer` with ids of streams in the members of `tree` replaced by their objects."""
    for member, subtree in tree.items():
        value = answer.get(member)
        if isinstance(value, dict):
            # A copy: what is rendered may be shared.
            answer[member] = await _members(dict(value), subtree, now, fetch)
        elif isinstance(value, str):
            state = await fetch(value)
            if state is not None and (member not in ELSEWHERE or isinstance(state, Resource)):
                answer[member] = await expanded(state, shown(state, now), subtree, now, fetch)
    return answer


def _of_owner(state: State, fetch: Fetch) -> Fetch:
    """`fetch` for what the object's own account has in its mode: an id told by another service may name
    anything."""

    async def owned(stream: str) -> State | None:
        found = await fetch(stream)
        same = found is not None and (found.account, found.livemode) == (state.account, state.livemode)
        return found if same else None

    return owned


async def _refunds(state: Charge, tree: Expansion, now: int, fetch: Fetch) -> dict[str, Any]:
    """The charge's newest refunds, as a list whose other pages its `url` gives."""
    newest = list(state.refunds)[: -REFUNDS_SHOWN_MAX - 1 : -1]
    data = []
    for refund_id in newest:
        refund = await fetch(refund_id)
        assert isinstance(refund, Refund), "a refund is made together with the mark on its charge"
        data.append(await expanded(refund, shown(refund, now), tree, now, fetch))
    url = f"/v1/charges/{state.id}/refunds"
    return _list(data, url, has_more=len(state.refunds) > REFUNDS_SHOWN_MAX)


def _list(data: list[dict[str, Any]], url: str, *, has_more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def visible(state: State, call: Call) -> bool:
    """Whether it is the account's, and of the key's mode."""
    return state.account == call.account and state.livemode == call.livemode


def mode_hint(state: State | None, kind: type[State], call: Call) -> str:
    """What is added for an object of that kind that the account has in the other mode; '' else."""
    if not isinstance(state, kind) or state.account != call.account or state.livemode == call.livemode:
        return ""
    return other_mode(call)


def other_mode(call: Call) -> str:
    """The hint itself."""
    there, used = ("test", "live") if call.livemode else ("live", "test")
    return f"; a similar object exists in {there} mode, but a {used} mode key was used to make this request."

"""Aggregates as the public API shows them to a caller: found by id, rendered, expanded.

One lookup for all: an object of another account is missing, one of the other mode is missing with a hint
(contract §1.2, §1.6), and an id never tells a kind by its prefix.
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
from ledger.domain.file import INLINE_LINKS_MAX, File
from ledger.domain.file_link import FileLink
from ledger.domain.imported_event import ImportedEvent
from ledger.domain.money import BalanceTransaction
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookEndpointQuota
from ledger.errors import DisputeNotFound, UnknownObject, UnknownReference
from ledger.store.codec import State
from ledger.wire import charges, files, refunds, render, resources, webhook_endpoints
from ledger.wire.expansion import EXTERNAL_FIELDS

Kind = TypeVar(
    "Kind", Customer, Charge, CustomerSession, Dispute, Refund, File, FileLink, WebhookEndpoint, ImportedEvent
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


async def get_target(call: Call, kind: type[Kind], fetch: Fetch) -> Kind:
    """The object the path names. Raises UnknownObject."""
    state = await fetch(call.target)
    if isinstance(state, kind) and is_visible(state, call):
        return state
    noun = _NOUNS[kind]
    raise UnknownObject(
        noun, call.target, param=_PATH_PARAMS.get(noun, "id"), hint=mode_hint(state, kind, call)
    )


async def target_newest_dispute(call: Call, fetch: Fetch) -> Call:
    """The call on the newest dispute of the charge that the path names, by the routes from when a charge
    had one (contract §2.2). Raises UnknownObject."""
    charge = await get_target(call, Charge, fetch)
    if not charge.disputes:
        raise DisputeNotFound(charge.id)
    return replace(call, target=list(charge.disputes)[-1])


async def get_param(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object the parameter names, a deleted customer counting as missing. Raises UnknownReference."""
    state = await get_filter(call, kind, param, object_id, fetch)
    if getattr(state, "deleted", False):
        raise UnknownReference(_NOUNS[kind], object_id, param=param)
    return state


async def get_filter(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object by which a list is filtered, also a deleted customer: what it paid is there (contract §2.5).
    Raises UnknownReference."""
    state = await fetch(object_id)
    if isinstance(state, kind) and is_visible(state, call):
        return state
    raise UnknownReference(_NOUNS[kind], object_id, param=param, hint=mode_hint(state, kind, call))


def render_object(state: State, now: int) -> dict[str, Any]:
    """The object as it stands, nothing expanded, and no secret told."""
    match state:
        case Customer():
            return (
                render.render_deleted_customer(state.id) if state.deleted else render.render_customer(state)
            )
        case Charge():
            return charges.render_charge(state)
        case Dispute():
            return render.render_dispute(state, now)
        case Refund():
            return refunds.render_refund(state)
        case CustomerSession():
            return render.render_customer_session(state, "")
        case File():
            return files.render_file(state)
        case FileLink():
            return files.render_file_link(state, now)
        case WebhookEndpoint():
            if state.deleted:
                return webhook_endpoints.render_deleted_webhook_endpoint(state.id)
            return webhook_endpoints.render_webhook_endpoint(state)
        case WebhookEndpointQuota():
            return webhook_endpoints.render_webhook_endpoint_quota(state)
        case Resource():
            return resources.render_resource(state)
        case ImportedEvent():
            return resources.render_imported_event(state)


async def expand(
    state: State, answer: dict[str, Any], tree: Expansion, now: int, fetch: Fetch
) -> dict[str, Any]:
    """`answer`, which shows `state`, with the members of `tree` shown whole (contract §1.8).

    Null stays null, and so does an id whose object is not kept here (a payment intent). What only another
    kind of source of a balance transaction has is passed over.
    """
    if isinstance(state, File):
        newest = [await fetch(link) for link in state.links[:INLINE_LINKS_MAX]]
        inner = tree.get("links", {}).get("data", {})
        answer["links"] = files.render_file_links(
            state,
            [
                await expand(link, files.render_file_link(link, now), inner, now, fetch)
                for link in newest
                if isinstance(link, FileLink)
            ],
        )
    fetch = _limit_to_owner(state, fetch)
    for member, subtree in tree.items():
        match member:
            case "links" if isinstance(state, File):
                pass  # always shown, with what of it was asked for
            case "sources" if isinstance(state, Customer):
                inner = subtree.get("data", {})
                cards = [
                    await _expand_members(charges.render_card(card, state.id), inner, now, fetch)
                    for card in state.sources
                ]
                answer[member] = _render_list(cards, f"/v1/customers/{state.id}/sources")
            case "refunds" if isinstance(state, Charge):
                answer[member] = await _render_refunds(state, subtree.get("data", {}), now, fetch)
            case "default_source" if isinstance(state, Customer):
                card = state.find_source(state.default_source)
                if card is not None:
                    answer[member] = await _expand_members(
                        charges.render_card(card, state.id), subtree, now, fetch
                    )
            case "balance_transaction" if isinstance(state, Charge | Refund):
                if state.balance_transaction is not None:
                    transaction = state.balance_transaction
                    answer[member] = await render_balance_transaction(transaction, subtree, now, fetch)
            case "balance_transactions" if isinstance(state, Dispute):
                answer[member] = [await _expand_members(item, subtree, now, fetch) for item in answer[member]]
            case _:
                await _expand_members(answer, {member: subtree}, now, fetch)
    return answer


async def render_balance_transaction(
    transaction: BalanceTransaction, tree: Expansion, now: int, fetch: Fetch
) -> dict[str, Any]:
    """A balance transaction with the members of `tree` shown whole."""
    return await _expand_members(render.render_balance_transaction(transaction, now), tree, now, fetch)


async def _expand_members(answer: dict[str, Any], tree: Expansion, now: int, fetch: Fetch) -> dict[str, Any]:
    """`answer` with ids of streams in the members of `tree` replaced by their objects."""
    for member, subtree in tree.items():
        value = answer.get(member)
        if isinstance(value, dict):
            # A copy: what is rendered may be shared.
            answer[member] = await _expand_members(dict(value), subtree, now, fetch)
        elif isinstance(value, str):
            state = await fetch(value)
            if state is not None and (member not in EXTERNAL_FIELDS or isinstance(state, Resource)):
                answer[member] = await expand(state, render_object(state, now), subtree, now, fetch)
    return answer


def _limit_to_owner(state: State, fetch: Fetch) -> Fetch:
    """`fetch` for what the object's own account has in its mode: an id told by another service may name
    anything."""

    async def fetch_owned(stream: str) -> State | None:
        candidate = await fetch(stream)
        is_owned = candidate is not None and (candidate.account, candidate.livemode) == (
            state.account,
            state.livemode,
        )
        return candidate if is_owned else None

    return fetch_owned


async def _render_refunds(state: Charge, tree: Expansion, now: int, fetch: Fetch) -> dict[str, Any]:
    """The charge's newest refunds, as a list whose other pages its `url` gives."""
    newest = list(state.refunds)[: -REFUNDS_SHOWN_MAX - 1 : -1]
    data = []
    for refund_id in newest:
        refund = await fetch(refund_id)
        assert isinstance(refund, Refund), "a refund is made together with the mark on its charge"
        data.append(await expand(refund, render_object(refund, now), tree, now, fetch))
    url = f"/v1/charges/{state.id}/refunds"
    return _render_list(data, url, has_more=len(state.refunds) > REFUNDS_SHOWN_MAX)


def _render_list(data: list[dict[str, Any]], url: str, *, has_more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def is_visible(state: State, call: Call) -> bool:
    """Whether it is the account's, and of the key's mode."""
    return state.account == call.account and state.livemode == call.livemode


def mode_hint(state: State | None, kind: type[State], call: Call) -> str:
    """What is added for an object of that kind that the account has in the other mode; '' else."""
    if not isinstance(state, kind) or state.account != call.account or state.livemode == call.livemode:
        return ""
    return other_mode_hint(call)


def other_mode_hint(call: Call) -> str:
    """The hint itself."""
    object_mode, key_mode = ("test", "live") if call.livemode else ("live", "test")
    return (
        f"; a similar object exists in {object_mode} mode, but a {key_mode} mode key was used to make this "
        "request."
    )

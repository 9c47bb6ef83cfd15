"""Find aggregates by id for a caller, render them as the public API shows them, and expand their members.

One rule for every lookup: an object of another account is missing; an object of the other mode is missing
too, with a hint in the error (contract §1.2, §1.6). The prefix of an id never decides what kind of object it
names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from ledger.call import Call
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.file import INLINE_LINKS_MAX, File
from ledger.domain.file_link import FileLink
from ledger.domain.money import BalanceTransaction
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.errors import DisputeNotFound, UnknownObject, UnknownReference
from ledger.wire import balance_transactions, charges, files
from ledger.wire.aggregates import AGGREGATES_BY_STATE
from ledger.wire.expansion import EXTERNAL_FIELDS, ExpandTree

Kind = TypeVar("Kind", bound=State)
Fetch = Callable[[str], Awaitable[State | None]]
"""Reads an aggregate by its stream; None if there is none."""
REFUNDS_SHOWN_MAX = 10


async def get_target(call: Call, kind: type[Kind], fetch: Fetch) -> Kind:
    """The object that the path names. Raises UnknownObject."""
    state = await fetch(call.target)
    if isinstance(state, kind) and is_visible(state, call):
        return state
    row = AGGREGATES_BY_STATE[kind]
    raise UnknownObject(row.noun, call.target, param=row.path_param, hint=mode_hint(state, kind, call))


async def target_newest_dispute(call: Call, fetch: Fetch) -> Call:
    """The call with the newest dispute of the charge in the path as its target.

    For the old routes under `/v1/charges/{id}/dispute` (contract §2.2). Raises UnknownObject for the charge,
    DisputeNotFound if it has no dispute.
    """
    charge = await get_target(call, Charge, fetch)
    if not charge.disputes:
        raise DisputeNotFound(charge.id)
    return replace(call, target=list(charge.disputes)[-1])


async def get_param(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object that the parameter `param` names. Raises UnknownReference, also for a deleted object."""
    state = await get_filter(call, kind, param, object_id, fetch)
    if getattr(state, "deleted", False):
        raise UnknownReference(AGGREGATES_BY_STATE[kind].noun, object_id, param=param)
    return state


async def get_filter(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object by which a list is filtered. A deleted customer is accepted: its payments can still be
    listed (contract §2.5). Raises UnknownReference."""
    state = await fetch(object_id)
    if isinstance(state, kind) and is_visible(state, call):
        return state
    noun = AGGREGATES_BY_STATE[kind].noun
    raise UnknownReference(noun, object_id, param=param, hint=mode_hint(state, kind, call))


def render_object(state: State, now: int) -> dict[str, Any]:
    """The object's JSON at `now` (unix seconds), with nothing expanded and without secrets.

    Of a deleted object only id and type remain.
    """
    rendered = AGGREGATES_BY_STATE[type(state)].render(state, now)
    if getattr(state, "deleted", False):
        return {"id": state.id, "object": rendered["object"], "deleted": True}
    return rendered


async def expand(
    state: State, answer: dict[str, Any], tree: ExpandTree, now: int, fetch: Fetch
) -> dict[str, Any]:
    """Expands the members of `answer` (the JSON of `state`) that `tree` names; returns `answer` (contract
    §1.8).

    Null stays null, and an id whose object is unknown (a payment intent that no service has published)
    stays an id. A member that the object does not have is ignored: the source of a balance transaction may
    be of another type than the one that has it.
    """
    if isinstance(state, File):
        links_tree = tree.get("links", {}).get("data", {})
        answer["links"] = await _render_file_links(state, links_tree, now, fetch)
    fetch = _limit_to_owner(state, fetch)
    for member, subtree in tree.items():
        match member:
            case "links" if isinstance(state, File):
                pass  # always rendered, above
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
    transaction: BalanceTransaction, tree: ExpandTree, now: int, fetch: Fetch
) -> dict[str, Any]:
    """The JSON of a balance transaction, with the members of `tree` expanded."""
    rendered = balance_transactions.render_balance_transaction(transaction, now)
    return await _expand_members(rendered, tree, now, fetch)


async def _expand_members(answer: dict[str, Any], tree: ExpandTree, now: int, fetch: Fetch) -> dict[str, Any]:
    """Replaces ids in the members of `answer` that `tree` names by the objects; returns `answer`."""
    for member, subtree in tree.items():
        value = answer.get(member)
        if isinstance(value, dict):
            # A copy, because nested members may be shared between results.
            answer[member] = await _expand_members(dict(value), subtree, now, fetch)
        elif isinstance(value, str):
            state = await fetch(value)
            if state is not None and (member not in EXTERNAL_FIELDS or _may_be_external(state, member)):
                answer[member] = await expand(state, render_object(state, now), subtree, now, fetch)
    return answer


def _may_be_external(state: State, member: str) -> bool:
    """Whether `state` is what a member with an id of another service may show: what a service published, or
    the ledger's own payment intent."""
    return isinstance(state, Resource) or (member == "payment_intent" and isinstance(state, PaymentIntent))


def _limit_to_owner(state: State, fetch: Fetch) -> Fetch:
    """`fetch` limited to the account and mode of `state`: its ids come from callers and other services, and
    may name any object."""

    async def fetch_owned(stream: str) -> State | None:
        candidate = await fetch(stream)
        is_owned = candidate is not None and (candidate.account, candidate.livemode) == (
            state.account,
            state.livemode,
        )
        return candidate if is_owned else None

    return fetch_owned


async def _render_file_links(state: File, tree: ExpandTree, now: int, fetch: Fetch) -> dict[str, Any]:
    """The file's newest links as a list object."""
    links = [await fetch(link_id) for link_id in state.links[:INLINE_LINKS_MAX]]
    rendered = [
        await expand(link, files.render_file_link(link, now), tree, now, fetch)
        for link in links
        if isinstance(link, FileLink)
    ]
    return files.render_file_links(state, rendered)


async def _render_refunds(state: Charge, tree: ExpandTree, now: int, fetch: Fetch) -> dict[str, Any]:
    """The charge's newest refunds as a list object; its `url` lists all of them."""
    newest = list(state.refunds)[: -REFUNDS_SHOWN_MAX - 1 : -1]
    data = []
    for refund_id in newest:
        refund = await fetch(refund_id)
        assert isinstance(refund, Refund), (
            "a charge lists only refunds that were appended together with its ChargeRefunded"
        )
        data.append(await expand(refund, render_object(refund, now), tree, now, fetch))
    url = f"/v1/charges/{state.id}/refunds"
    return _render_list(data, url, has_more=len(state.refunds) > REFUNDS_SHOWN_MAX)


def _render_list(data: list[dict[str, Any]], url: str, *, has_more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def is_visible(state: State, call: Call) -> bool:
    """Whether the object belongs to the account and the mode of the call."""
    return state.account == call.account and state.livemode == call.livemode


def mode_hint(state: State | None, kind: type[State], call: Call) -> str:
    """The hint for an error, if the account has the object in the other mode; else ''."""
    if not isinstance(state, kind) or state.account != call.account or state.livemode == call.livemode:
        return ""
    return other_mode_hint(call)


def other_mode_hint(call: Call) -> str:
    """The hint that a similar object exists in the other mode (contract §1.6)."""
    object_mode, key_mode = ("test", "live") if call.livemode else ("live", "test")
    return (
        f"; a similar object exists in {object_mode} mode, but a {key_mode} mode key was used to make this "
        "request."
    )

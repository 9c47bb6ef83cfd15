"""Aggregates as the public API shows them to a caller: found by id, rendered, expanded.

One lookup for all: an object of another account is missing, one of the other mode is missing with a hint
(CONTRACT 1.2, 1.6), and an id never tells a kind by its prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ledger.call import Call, Expansion
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.session import CustomerSession
from ledger.errors import InvalidParameter, UnknownObject
from ledger.store.codec import State
from ledger.wire import render

Kind = TypeVar("Kind", Customer, Charge, CustomerSession, Dispute)
Fetch = Callable[[str], Awaitable[State | None]]

_NOUNS: dict[type[State], str] = {
    Customer: "customer",
    Charge: "charge",
    CustomerSession: "customer session",
    Dispute: "dispute",
}
_PATH_PARAMS = {"dispute": "dispute"}


async def addressed(call: Call, kind: type[Kind], fetch: Fetch) -> Kind:
    """The object the path names. Raises UnknownObject."""
    state = await fetch(call.target)
    if isinstance(state, kind) and _visible(state, call):
        return state
    noun = _NOUNS[kind]
    raise UnknownObject(
        noun, call.target, param=_PATH_PARAMS.get(noun, "id"), hint=_other_mode(state, kind, call)
    )


async def named(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object the parameter names, a deleted customer counting as missing. Raises InvalidParameter."""
    state = await fetch(object_id)
    if isinstance(state, kind) and _visible(state, call) and not getattr(state, "deleted", False):
        return state
    raise InvalidParameter(
        f"No such {_NOUNS[kind]}: '{object_id}'{_other_mode(state, kind, call)}",
        code="resource_missing",
        param=param,
    )


def shown(state: State, now: int) -> dict[str, Any]:
    """The object as it stands, nothing expanded. A customer session is shown without its secret."""
    match state:
        case Customer():
            return render.deleted_customer(state.id) if state.deleted else render.customer(state)
        case Charge():
            return render.charge(state)
        case Dispute():
            return render.dispute(state, now)
        case CustomerSession():
            return render.customer_session(state, "")


async def expanded(
    state: State, answer: dict[str, Any], tree: Expansion, now: int, fetch: Fetch
) -> dict[str, Any]:
    """`answer`, which shows `state`, with the members of `tree` shown whole (CONTRACT 1.8).

    Null stays null, and so does an id whose object is not kept here (a payment intent).
    """
    for member, subtree in tree.items():
        match member:
            case "sources":
                assert isinstance(state, Customer)
                inner = subtree.get("data", {})
                cards = [
                    await _members(render.card(card, state.id), inner, now, fetch) for card in state.sources
                ]
                answer[member] = _list(cards, f"/v1/customers/{state.id}/sources")
            case "refunds":
                assert isinstance(state, Charge)
                answer[member] = _list([], f"/v1/charges/{state.id}/refunds")
            case "default_source":
                assert isinstance(state, Customer)
                card = state.source(state.default_source)
                if card is not None:
                    answer[member] = await _members(render.card(card, state.id), subtree, now, fetch)
            case "balance_transaction":
                assert isinstance(state, Charge)
                if state.balance_transaction is not None:
                    transaction = render.balance_transaction(state.balance_transaction, now)
                    answer[member] = await _members(transaction, subtree, now, fetch)
            case "balance_transactions":
                answer[member] = [await _members(each, subtree, now, fetch) for each in answer[member]]
            case _:
                await _members(answer, {member: subtree}, now, fetch)
    return answer


async def _members(answer: dict[str, Any], tree: Expansion, now: int, fetch: Fetch) -> dict[str, Any]:
    """`answer` with ids of streams in the members of `tree` replaced by their objects."""
    for member, subtree in tree.items():
        value = answer.get(member)
        if isinstance(value, dict):
            answer[member] = await _members(
                dict(value), subtree, now, fetch
            )  # what is rendered may be shared
        elif isinstance(value, str):
            state = await fetch(value)
            if state is not None:
                answer[member] = await expanded(state, shown(state, now), subtree, now, fetch)
    return answer


def _list(data: list[dict[str, Any]], url: str) -> dict[str, Any]:
    return {"object": "list", "data": data, "has_more": False, "url": url}


def _visible(state: State, call: Call) -> bool:
    return state.account == call.account and state.livemode == call.livemode


def _other_mode(state: State | None, kind: type[State], call: Call) -> str:
    if not isinstance(state, kind) or state.account != call.account or state.livemode == call.livemode:
        return ""
    there, used = ("live", "test") if state.livemode else ("test", "live")
    return f"; a similar object exists in {there} mode, but a {used} mode key was used to make this request."

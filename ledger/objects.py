"""Find aggregates by id for a caller, render them as the public API shows them, and expand their members.

One rule for every lookup: an object of another account is missing; an object of the other mode is missing
too, with a hint in the error (contract §1.2, §1.6). The prefix of an id never decides what kind of object it
names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import structlog

from ledger.call import Call
from ledger.domain.aggregate import State
from ledger.domain.cards import SourceCard
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.file import INLINE_LINKS_MAX, File
from ledger.domain.file_link import FileLink
from ledger.domain.money import BalanceTransaction
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.redaction_job import RedactionJob
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.errors import DisputeNotFound, UnknownObject, UnknownReference, UnreadableRecord
from ledger.wire import balance_transactions, charges, customers, files, payment_methods, redaction_jobs
from ledger.wire.aggregates import AGGREGATES_BY_STATE
from ledger.wire.expansion import EXTERNAL_FIELDS, ExpandTree
from ledger.wire.json_values import make_list_object
from ledger.wire.redaction import render_redaction

Kind = TypeVar("Kind", bound=State)
Result = TypeVar("Result")
Fetch = Callable[[str], Awaitable[State | None]]
"""Reads an aggregate by its stream; None if there is none."""
READS_AT_ONCE_MAX = 256
DESTINATION_NOUN = "event destination"
REFUNDS_SHOWN_MAX = 10

log = structlog.get_logger()


async def get_target(call: Call, kind: type[Kind], fetch: Fetch, *, noun: str | None = None) -> Kind:
    """The object that the path names; `noun`: what an error calls it, if not as the registry does. Raises
    UnknownObject, and UnreadableRecord for the caller's own."""
    try:  # as in `fetch_own`, without a coroutine for it: most requests begin with this
        state = await fetch(call.target)
    except UnreadableRecord as error:
        _raise_own(error, call)
        state = None
    if isinstance(state, kind) and is_visible(state, call):
        return state
    row = AGGREGATES_BY_STATE[kind]
    hint = mode_hint(state, kind, call)
    if noun is not None:
        raise UnknownObject(noun, call.target, hint=hint)
    raise UnknownObject(row.noun, call.target, param=row.path_param, hint=hint)


async def get_destination(call: Call, fetch: Fetch) -> WebhookEndpoint:
    """The event destination that the path names. Raises UnknownObject, also for a deleted one, and
    UnreadableRecord for the caller's own."""
    state = await get_target(call, WebhookEndpoint, fetch, noun=DESTINATION_NOUN)
    if state.deleted:
        raise UnknownObject(DESTINATION_NOUN, state.id)
    return state


async def target_newest_dispute(call: Call, fetch: Fetch) -> Call:
    """The call with the newest dispute of the charge in the path as its target.

    For the old routes under `/v1/charges/{id}/dispute` (contract §2.2). Raises UnknownObject for the charge,
    DisputeNotFound if it has no dispute.
    """
    charge = await get_target(call, Charge, fetch)
    if not charge.disputes:
        raise DisputeNotFound(charge.id)
    return call.replace(target=list(charge.disputes)[-1])


async def get_param(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object that the parameter `param` names. Raises UnknownReference, also for a deleted object."""
    state = _check_reference(await fetch_own(call, object_id, fetch), call, kind, param, object_id)
    if getattr(state, "deleted", False):
        raise UnknownReference(AGGREGATES_BY_STATE[kind].noun, object_id, param=param)
    return state


async def get_filter(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object by which a list is filtered. A deleted customer is accepted: its payments can still be
    listed (contract §2.5). Raises UnknownReference, and UnreadableRecord for the caller's own."""
    return _check_reference(await fetch_own(call, object_id, fetch), call, kind, param, object_id)


def _check_reference(state: State | None, call: Call, kind: type[Kind], param: str, object_id: str) -> Kind:
    if isinstance(state, kind) and is_visible(state, call):
        return state
    noun = AGGREGATES_BY_STATE[kind].noun
    raise UnknownReference(noun, object_id, param=param, hint=mode_hint(state, kind, call))


async def fetch_own(call: Call, stream: str, fetch: Fetch) -> State | None:
    """The aggregate. None for one that cannot be read and belongs to another account or mode: it is missing,
    like any other of theirs. Raises UnreadableRecord."""
    try:
        return await fetch(stream)
    except UnreadableRecord as error:
        _raise_own(error, call)
        return None


def _raise_own(error: UnreadableRecord, call: Call) -> None:
    if error.owner in (None, (call.account, call.livemode)):
        raise error


async def get_readable(fetch: Fetch, stream: str) -> State | None:
    """The aggregate for an answer that only shows it beside what was asked for. None also when it cannot be
    read: that is logged, and the answer keeps the id."""
    try:
        return await fetch(stream)
    except UnreadableRecord as error:
        log.error("record_unreadable", **error.to_log())
        return None


def render_object(state: State, now: int) -> dict[str, Any]:
    """The object's JSON at `now` (unix seconds), with nothing expanded and without secrets; of a redacted one
    it says so, which only preview versions show in the end (`wire/redaction`).

    Of a deleted object only id and type remain.
    """
    rendered = AGGREGATES_BY_STATE[type(state)].render(state, now)
    if getattr(state, "deleted", False):
        return {"id": state.id, "object": rendered["object"], "deleted": True}
    if state.redaction:
        rendered |= render_redaction(state)
    return rendered


async def expand(
    state: State, answer: dict[str, Any], tree: ExpandTree, now: int, fetch: Fetch
) -> dict[str, Any]:
    """Expands the members of `answer` (the JSON of `state`) that `tree` names; returns `answer` (contract
    §1.8).

    Null stays null, and an id whose object is unknown (a payment intent that no service has published)
    or cannot be read stays an id. A member that the object does not have is ignored: the source of a balance
    transaction may be of another type than the one that has it. Of a deleted object only the id is shown, so
    it has no members to expand.
    """
    if getattr(state, "deleted", False):
        return answer
    if isinstance(state, File):
        tree = {"links": {}, **tree}  # always shown
    fetch = _limit_to_owner(state, fetch)
    await run_together(
        [_expand_member(state, answer, member, subtree, now, fetch) for member, subtree in tree.items()]
    )
    return answer


async def run_together(steps: Sequence[Awaitable[Result]]) -> list[Result]:
    """The results of `steps`, in their order. All run at the same time: so the objects that a page needs at
    one level of its expansion are read from the log by one statement (`StreamReader`)."""
    if len(steps) < 2:  # needs no task
        return [await step for step in steps]
    return await asyncio.gather(*steps)


def share_reads(fetch: Fetch) -> Fetch:
    """`fetch` for one answer: it reads each object once, and at most READS_AT_ONCE_MAX at the same time, so
    that no answer fills the queue of the reader."""
    reads: dict[str, asyncio.Future[State | None]] = {}
    slots = asyncio.Semaphore(READS_AT_ONCE_MAX)

    async def read(stream: str) -> State | None:
        async with slots:
            return await fetch(stream)

    async def fetch_shared(stream: str) -> State | None:
        if stream not in reads:
            reads[stream] = asyncio.ensure_future(read(stream))
        return await reads[stream]

    return fetch_shared


async def _expand_member(
    state: State, answer: dict[str, Any], member: str, tree: ExpandTree, now: int, fetch: Fetch
) -> None:
    """Expands one member of `answer`, and in it the members that `tree` names."""
    match member:
        case "links" if isinstance(state, File):
            answer[member] = await _render_file_links(state, tree.get("data", {}), now, fetch)
        case "sources" if isinstance(state, Customer):
            answer[member] = await _render_sources(state, tree.get("data", {}), now, fetch)
        case "default_source" if isinstance(state, Customer):
            card = state.find_source(state.default_source)
            if card is not None:
                answer[member] = await render_source(card, state, tree, now, fetch)
        case "invoice_settings" if isinstance(state, Customer):
            answer[member] = await _expand_invoice_settings(state, tree, now, fetch)
        case "subscriptions" | "tax_ids" | "tax" | "cash_balance" if isinstance(state, Customer):
            answer[member] = customers.render_unused_member(state, member)
        case "refunds" if isinstance(state, Charge):
            answer[member] = await _render_refunds(state, tree.get("data", {}), now, fetch)
        case "objects" if isinstance(state, RedactionJob):
            answer[member] = redaction_jobs.render_objects(state)
        case "payment_method" if isinstance(state, Charge | Refund | PaymentIntent):
            holder = await fetch(state.charge) if isinstance(state, Refund) else state
            if isinstance(holder, Charge | PaymentIntent) and holder.card is not None:
                shown = await render_charged_card(holder, holder.card, tree, now, fetch)
                answer[member] = shown or answer[member]
        case "balance_transaction" if isinstance(state, Charge | Refund):
            transaction = state.balance_transaction
            if transaction is not None:
                answer[member] = await render_balance_transaction(transaction, tree, now, fetch)
        case "balance_transactions" if isinstance(state, Dispute):
            answer[member] = await run_together(
                [_expand_members(item, tree, now, fetch) for item in answer[member]]
            )
        case _:
            await _expand_members(answer, {member: tree}, now, fetch)


async def render_balance_transaction(
    transaction: BalanceTransaction, tree: ExpandTree, now: int, fetch: Fetch
) -> dict[str, Any]:
    """The JSON of a balance transaction, with the members of `tree` expanded."""
    rendered = balance_transactions.render_balance_transaction(transaction, now)
    return await _expand_members(rendered, tree, now, fetch)


async def render_source(
    card: SourceCard, customer: Customer, tree: ExpandTree, now: int, fetch: Fetch
) -> dict[str, Any]:
    """The JSON of a customer's card, with the members of `tree` expanded."""
    return await _expand_members(charges.render_card(card, customer.id), tree, now, fetch)


async def render_saved_card(
    card: SourceCard, customer: Customer, tree: ExpandTree, now: int, fetch: Fetch
) -> dict[str, Any]:
    """The JSON of a customer's card as a payment method, with the members of `tree` expanded."""
    rendered = payment_methods.render_payment_method(card, customer, customer.id)
    return await _expand_members(rendered, tree, now, fetch)


async def render_charged_card(
    holder: Charge | PaymentIntent, card: SourceCard, tree: ExpandTree, now: int, fetch: Fetch
) -> dict[str, Any] | None:
    """The JSON of the card of a charge or an intent as a payment method, with the members of `tree` expanded.

    It belongs to the charge's customer only if that one has saved it and is not deleted: the card of a
    single charge belongs to nobody, nor does a deleted customer own one. None for the saved card of a deleted
    customer that the intent has not charged: it is no longer shown.
    """
    customer = await fetch(holder.customer) if holder.customer is not None else None
    if isinstance(customer, Customer) and customer.find_source(card["id"]):
        if not customer.deleted:
            return await render_saved_card(card, customer, tree, now, fetch)
        if not await _has_charged(holder, card, fetch):
            return None
    rendered = payment_methods.render_payment_method(card, holder, None)
    return await _expand_members(rendered, tree, now, fetch)


async def _has_charged(holder: Charge | PaymentIntent, card: SourceCard, fetch: Fetch) -> bool:
    """Whether the card was charged: by this charge, or by the newest charge of this intent."""
    newest: State | None = holder
    if isinstance(holder, PaymentIntent):
        newest = await fetch(holder.latest_charge) if holder.latest_charge is not None else None
    return isinstance(newest, Charge) and newest.card is not None and newest.card["id"] == card["id"]


async def _expand_members(answer: dict[str, Any], tree: ExpandTree, now: int, fetch: Fetch) -> dict[str, Any]:
    """Replaces ids in the members of `answer` that `tree` names by the objects; returns `answer`."""

    async def expand_one(member: str, subtree: ExpandTree) -> None:
        value = answer.get(member)
        if isinstance(value, dict):
            # A copy, because nested members may be shared between results.
            answer[member] = await _expand_members(dict(value), subtree, now, fetch)
        elif isinstance(value, list):
            items = [dict(item) if isinstance(item, dict) else {} for item in value]
            expanded = await run_together([_expand_members(item, subtree, now, fetch) for item in items])
            answer[member] = [new or old for new, old in zip(expanded, value, strict=True)]
        elif isinstance(value, str):
            state = await fetch(value)
            if state is not None and (member not in EXTERNAL_FIELDS or _may_be_external(state, member)):
                answer[member] = await expand(state, render_object(state, now), subtree, now, fetch)

    await run_together([expand_one(member, subtree) for member, subtree in tree.items()])
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


async def _expand_invoice_settings(
    state: Customer, tree: ExpandTree, now: int, fetch: Fetch
) -> dict[str, Any]:
    """The customer's invoice settings. A default payment method that is none of its cards belongs to another
    service, if to anybody."""
    settings = dict(state.invoice_settings)
    card = state.find_source(settings["default_payment_method"])
    if card is None:
        return await _expand_members(settings, tree, now, fetch)
    subtree = tree.get("default_payment_method")
    if subtree is not None:
        settings["default_payment_method"] = await render_saved_card(card, state, subtree, now, fetch)
    return settings


async def _render_sources(state: Customer, tree: ExpandTree, now: int, fetch: Fetch) -> dict[str, Any]:
    """The customer's cards as a list object, newest first."""
    cards = await run_together(
        [render_source(card, state, tree, now, fetch) for card in reversed(state.sources)]
    )
    return make_list_object(cards, f"/v1/customers/{state.id}/sources")


async def _render_file_links(state: File, tree: ExpandTree, now: int, fetch: Fetch) -> dict[str, Any]:
    """The file's newest links as a list object."""
    links = await run_together([fetch(link_id) for link_id in state.links[:INLINE_LINKS_MAX]])
    rendered = await run_together(
        [
            expand(link, files.render_file_link(link, now), tree, now, fetch)
            for link in links
            if isinstance(link, FileLink)
        ]
    )
    return files.render_file_links(state, rendered)


async def _render_refunds(state: Charge, tree: ExpandTree, now: int, fetch: Fetch) -> dict[str, Any]:
    """The charge's newest refunds as a list object; its `url` lists all of them. One that cannot be read is
    left out, and `has_more` is true."""
    newest = list(state.refunds)[: -REFUNDS_SHOWN_MAX - 1 : -1]
    refunds = await run_together([fetch(refund_id) for refund_id in newest])
    data = await run_together(
        [
            expand(refund, render_object(refund, now), tree, now, fetch)
            for refund in refunds
            if isinstance(refund, Refund)
        ]
    )
    url = f"/v1/charges/{state.id}/refunds"
    return make_list_object(data, url, has_more=len(state.refunds) > len(data))


def is_visible(state: State, call: Call) -> bool:
    """Whether the object belongs to the account and the mode of the call."""
    cause = call.cause
    return state.account == cause.account and state.livemode == cause.livemode


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

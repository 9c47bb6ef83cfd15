"""Customers and their saved cards: domain events, state and decisions (contract §2.5).

The state of a deleted customer is kept, so objects that refer to it can still be rendered. An update that
changes nothing makes no event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

import msgspec

from ledger.domain import cards, merge_patch
from ledger.domain.aggregate import State, next_header
from ledger.domain.backdating import resolve_created_at
from ledger.domain.cards import SourceCard
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.redaction.documents import redact_document
from ledger.domain.redaction.rules import (
    Rule,
    keep,
    redact_address,
    redact_card,
    redact_locales,
    redact_members,
    redact_metadata,
    redact_shipping,
    redact_text,
)
from ledger.errors import UnknownObject, UnknownReference

DEFAULT_INVOICE_SETTINGS: dict[str, Any] = {
    "custom_fields": None,
    "default_payment_method": None,
    "footer": None,
    "rendering_options": None,
}
_PREFIX_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PREFIX_PAIRS = [a + b for a in _PREFIX_DIGITS for b in _PREFIX_DIGITS]
"""Base 32, ten bits at a time: `base64.b32encode` takes three times as long."""
_DEFAULT_RENDERING_OPTIONS: dict[str, Any] = {"amount_tax_display": None, "template": None}
# Fields that an update replaces as a whole.
_SIMPLE_FIELDS = (
    "name", "email", "phone", "description", "business_name", "individual_name",
    "balance", "invoice_prefix", "next_invoice_sequence", "preferred_locales", "tax_exempt",
)  # fmt: skip
# The values of unset fields that are not None.
_UNSET_VALUES: dict[str, Any] = {
    "balance": 0,
    "next_invoice_sequence": 1,
    "preferred_locales": [],
    "tax_exempt": "none",
}
_REDACTION: dict[str, Rule] = {
    "name": redact_text,
    "email": redact_text,
    "phone": redact_text,
    "description": redact_text,
    "business_name": redact_text,
    "individual_name": redact_text,
    "address": redact_address,
    "shipping": redact_shipping,
    "metadata": redact_metadata,
    "invoice_settings": redact_document,
    "preferred_locales": redact_locales,
}


@domain_event
class CustomerCreated(DomainEvent):
    """`card` is the first saved card, and the default source. `created` (unix seconds) is before `at` for a
    customer that was made in another system and imported later."""

    TOPIC: ClassVar[str] = "customer.created"
    class_version: ClassVar[int] = 4
    REDACTION: ClassVar[Mapping[str, Rule]] = {**_REDACTION, "card": redact_card}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    created: int
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    description: str | None = None
    business_name: str | None = None
    individual_name: str | None = None
    address: dict[str, Any] | None = None
    shipping: dict[str, Any] | None = None
    metadata: dict[str, str] | None = field(default_factory=dict)
    card: SourceCard | None = None
    balance: int = 0
    invoice_prefix: str = ""
    invoice_settings: dict[str, Any] | None = field(default_factory=lambda: dict(DEFAULT_INVOICE_SETTINGS))
    next_invoice_sequence: int = 1
    preferred_locales: list[str] | None = field(default_factory=list)
    tax_exempt: str = "none"

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Version 1 had no `created`: no customer was imported."""
        state["created"] = state["at"]

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Version 2 had `invoice_settings` in the clear: they are read as they are."""

    @staticmethod
    def upcast_v3_v4(state: dict[str, Any]) -> None:
        """Version 3 had `preferred_locales` in the clear: they are read as they are."""


@domain_event
class CustomerUpdated(DomainEvent):
    """`changes` maps each changed field of the state to its complete new value; `card` a new saved card."""

    TOPIC: ClassVar[str] = "customer.updated"
    REDACTION: ClassVar[Mapping[str, Rule]] = {
        "changes": redact_members(
            {
                **_REDACTION,
                "balance": keep,
                "default_source": keep,
                "invoice_prefix": keep,
                "next_invoice_sequence": keep,
                "tax_exempt": keep,
            }
        ),
        "card": redact_card,
    }
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    changes: dict[str, Any] | None
    card: SourceCard | None = None


@domain_event
class CustomerDeleted(DomainEvent):
    """The customer was deleted; it cannot be used or changed any more."""

    TOPIC: ClassVar[str] = "customer.deleted"


EVENTS: tuple[type[DomainEvent], ...] = (CustomerCreated, CustomerUpdated, CustomerDeleted)


class Customer(State, frozen=True, kw_only=True):
    """A customer. An address is None or has all of its six members.

    balance         minor units; negative is a credit towards the next invoices
    sources         the saved cards, oldest first
    default_source  id of one of them
    """

    created: int
    name: str | None
    email: str | None
    phone: str | None
    description: str | None
    business_name: str | None
    individual_name: str | None
    address: dict[str, Any] | None
    shipping: dict[str, Any] | None
    metadata: dict[str, str]
    balance: int
    invoice_prefix: str
    invoice_settings: dict[str, Any]
    next_invoice_sequence: int
    preferred_locales: list[str]
    tax_exempt: str
    default_source: str | None
    sources: list[SourceCard]
    deleted: bool = False

    def find_source(self, card_id: str | None) -> SourceCard | None:
        """The saved card with that id, or None."""
        return next((card for card in self.sources if card["id"] == card_id), None)


def evolve(state: Customer | None, event: DomainEvent) -> Customer:
    """The customer after `event`. Raises TypeError for an event of another aggregate."""
    match event:
        case CustomerCreated():
            card = event.card
            return Customer(
                id=event.originator_id,
                version=event.originator_version,
                account=event.account,
                livemode=event.livemode,
                created=event.created,
                name=event.name,
                email=event.email,
                phone=event.phone,
                description=event.description,
                business_name=event.business_name,
                individual_name=event.individual_name,
                address=event.address,
                shipping=event.shipping,
                metadata=event.metadata or {},
                balance=event.balance,
                invoice_prefix=event.invoice_prefix,
                invoice_settings=event.invoice_settings or dict(DEFAULT_INVOICE_SETTINGS),
                next_invoice_sequence=event.next_invoice_sequence,
                preferred_locales=event.preferred_locales or [],
                tax_exempt=event.tax_exempt,
                default_source=card["id"] if card else None,
                sources=[card] if card else [],
            )
        case CustomerUpdated():
            assert state is not None
            sources = [*state.sources, event.card] if event.card else state.sources
            return msgspec.structs.replace(
                state, version=event.originator_version, sources=sources, **event.changes or {}
            )
        case CustomerDeleted():
            assert state is not None
            return msgspec.structs.replace(state, version=event.originator_version, deleted=True)
    raise TypeError(f"{type(event).__name__} is not a customer event")


def create(
    *, customer_id: str, account: str, livemode: bool, params: Mapping[str, Any], card_id: str, now: int
) -> list[DomainEvent]:
    """A new customer with the fields in `params`; `params["source"]` is the token of a card, saved as
    `card_id`.

    The internal API may also give `created` (unix seconds). Raises InvalidParameter for metadata beyond its
    limits or `created` in the future, UnknownReference for an unknown token, CardError for a card that cannot
    be saved.
    """
    fields: dict[str, Any] = {
        "address": merge_patch.merge_address(None, params.get("address")),
        "shipping": merge_patch.merge_shipping(None, params.get("shipping"), with_carrier=False),
        "invoice_settings": _merge_invoice_settings(DEFAULT_INVOICE_SETTINGS, params.get("invoice_settings")),
        "metadata": merge_patch.merge_metadata({}, params.get("metadata")),
        "invoice_prefix": _derive_invoice_prefix(customer_id),
    }
    fields |= {name: params[name] for name in _SIMPLE_FIELDS if params.get(name) is not None}
    return [
        CustomerCreated(
            originator_id=customer_id,
            originator_version=1,
            at=now,
            account=account,
            livemode=livemode,
            created=resolve_created_at(params, now),
            card=_make_attachable_card(params.get("source"), card_id, livemode),
            **fields,
        )
    ]


def update(state: Customer, params: Mapping[str, Any], *, card_id: str, now: int) -> list[DomainEvent]:
    """Changes the fields named in `params`: absent ones keep their values, None unsets, hashes are merged.

    Returns [] if nothing changes. Raises UnknownObject for a deleted customer, UnknownReference for a
    `default_source` that is not one of its cards, and what `create` raises.
    """
    check_not_deleted(state)
    after: dict[str, Any] = {
        name: _UNSET_VALUES.get(name) if params[name] is None else params[name]
        for name in _SIMPLE_FIELDS
        if name in params
    }
    if "address" in params:
        after["address"] = merge_patch.merge_address(state.address, params["address"])
    if "shipping" in params:
        after["shipping"] = merge_patch.merge_shipping(state.shipping, params["shipping"], with_carrier=False)
    if "invoice_settings" in params:
        after["invoice_settings"] = _merge_invoice_settings(
            state.invoice_settings, params["invoice_settings"]
        )
    if "metadata" in params:
        after["metadata"] = merge_patch.merge_metadata(state.metadata, params["metadata"])
    if params.get("default_source") is not None:
        source_id = params["default_source"]
        if state.find_source(source_id) is None:
            raise UnknownReference("source", source_id, param="default_source")
        after["default_source"] = source_id
    card = _make_attachable_card(params.get("source"), card_id, state.livemode)
    if card is not None:
        after["default_source"] = card["id"]
    changes = merge_patch.find_changes(state, after)
    return [CustomerUpdated(**next_header(state, now), changes=changes, card=card)] if changes else []


def delete(state: Customer, *, now: int) -> list[DomainEvent]:
    """Deletes the customer. Raises UnknownObject if it is deleted already."""
    check_not_deleted(state)
    return [CustomerDeleted(**next_header(state, now))]


def check_not_deleted(state: Customer) -> None:
    """Raises UnknownObject for a deleted customer."""
    if state.deleted:
        raise UnknownObject("customer", state.id)


def _make_attachable_card(token: str | None, card_id: str, livemode: bool) -> SourceCard | None:
    if token is None:
        return None
    card = cards.make_source_card(token, card_id=card_id, livemode=livemode)
    cards.check_attachable(card)
    return card


def _merge_invoice_settings(current: Mapping[str, Any], patch: Mapping[str, Any] | None) -> dict[str, Any]:
    settings = merge_patch.merge_hash(current, patch, DEFAULT_INVOICE_SETTINGS)
    if settings is None:
        return dict(DEFAULT_INVOICE_SETTINGS)
    if patch and patch.get("rendering_options"):
        settings["rendering_options"] = merge_patch.merge_hash(
            current["rendering_options"], patch["rendering_options"], _DEFAULT_RENDERING_OPTIONS
        )
    return settings


def _derive_invoice_prefix(customer_id: str) -> str:
    """Eight upper-case letters or digits, derived from the id."""
    number = int.from_bytes(hashlib.blake2b(customer_id.encode(), digest_size=5).digest(), "big")
    first, second, third = number >> 30, number >> 20 & 1023, number >> 10 & 1023
    pairs = _PREFIX_PAIRS
    return pairs[first] + pairs[second] + pairs[third] + pairs[number & 1023]

"""What belongs to what, for redaction jobs and legal holds: which objects can be erased by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import EvidenceStaged, EvidenceSubmitted
from ledger.domain.event import DomainEvent
from ledger.domain.evidence import list_files
from ledger.domain.file import FileLinked
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.resource import Resource

NAMING_TOPICS = (EvidenceStaged.TOPIC, EvidenceSubmitted.TOPIC, FileLinked.TOPIC)
"""Of the events that may name files or links."""


class Owner(NamedTuple):
    """The object that another one belongs to: with its key that one is sealed, or it has the same data."""

    noun: str
    id: str


def get_root_type(state: State) -> str | None:
    """The type of an object that can be erased by itself or with what it belongs to; None for any other."""
    match state:
        case Customer():
            return "customer"
        case Charge():
            return "charge"
        case PaymentIntent():
            return "payment_intent"
        case Resource():
            return state.type
    return None


def find_owner(state: State) -> Owner | None:
    """The object without which `state` cannot be erased; None if it is erased by itself."""
    if isinstance(state, Charge | PaymentIntent | Resource) and state.customer is not None:
        return Owner("customer", state.customer)
    if isinstance(state, Charge) and state.payment_intent is not None:
        return Owner("payment intent", state.payment_intent)
    return None


def list_subjects(roots: Iterable[State]) -> list[str]:
    """The ids of those roots that do not belong to another one of them."""
    states = {state.id: state for state in roots}
    return [
        each.id for each in states.values() if (owner := find_owner(each)) is None or owner.id not in states
    ]


def list_named(event: DomainEvent) -> Iterator[str]:
    """The files that evidence names, or the link that a file has got."""
    match event:
        case EvidenceStaged(evidence=evidence) | EvidenceSubmitted(evidence=evidence):
            yield from (file_id for _, file_id in list_files(evidence or {}))
        case FileLinked(link=link):
            yield link

"""Whoever pays without being a customer is erased by the ids of the payments: each has a key of its own."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.erasure.answers import find_shown, read_all
from tests.erasure.markers import Person
from tests.erasure.stage import Stage
from tests.erasure.traces import Traces, plant_guest


class Guests(NamedTuple):
    """One who was erased and one who was not; `shown` are the places of the other one's marks before."""

    erased: Traces
    other: Traces
    shown: set[str]


@pytest.fixture(scope="module")
def guests(stage: Stage) -> Guests:
    erased, other = plant_guest(stage, Person("Ada")), plant_guest(stage, Person("Ben"))
    stage.wait_for_projections()
    shown = set(find_shown(read_all(other), other))
    intents = erased.ids["payment_intents"]
    of_intents = {
        stage.raw.get(f"/v1/payment_intents/{intent}").json()["latest_charge"] for intent in intents
    }
    charges = [charge for charge in erased.ids["charges"] if charge not in of_intents]
    stage.erase(charges=charges, payment_intents=intents)
    stage.wait_for_projections()
    return Guests(erased, other, shown)


def test_nothing_of_the_guest_is_shown(guests: Guests) -> None:
    """Nor of the refunds, disputes, files and links of the payments, which have keys of their own."""
    assert find_shown(read_all(guests.erased), guests.erased) == {}


def test_another_guest_is_shown_as_before(guests: Guests) -> None:
    assert find_shown(read_all(guests.other), guests.other).keys() == guests.shown

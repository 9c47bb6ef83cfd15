"""Stored bytes: JSON with personal data sealed in its place, and old shapes lifted to today's."""

from __future__ import annotations

import dataclasses
import sys
from base64 import b64decode, b64encode
from typing import Any, ClassVar

import eventsourcing.utils
import msgspec
import pytest
from cryptography.exceptions import InvalidTag
from eventsourcing.persistence import Mapper, StoredEvent

from ledger.domain import customer_session
from ledger.domain.customer import CustomerCreated, CustomerDeleted, CustomerUpdated
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.money import Terms
from ledger.errors import UnreadableRecord
from ledger.store.codec import Codec, JsonTranscoder
from ledger.wire.aggregates import EVENT_CLASSES
from tests.store.stores import KEY, NOW

CODEC = Codec(KEY)
ERASED: dict[str, Any] = dict.fromkeys(CustomerCreated.PERSONAL)
ADA = CustomerCreated(
    originator_id="cus_1",
    originator_version=1,
    at=NOW,
    account="acct_1",
    livemode=False,
    created=NOW,
    name="Ada Lovelace",
    email="ada@example.com",
    address={"city": "London", "line1": "12 St James's Square"},
    metadata={"note": "pays in cash"},
    preferred_locales=["en"],
)


def stored_state(stored: StoredEvent) -> dict[str, Any]:
    state: dict[str, Any] = msgspec.json.decode(stored.state)
    return state


def test_an_event_comes_back_as_it_went() -> None:
    stored = CODEC.to_stored_event(ADA)
    assert (stored.originator_id, stored.originator_version, stored.topic) == ("cus_1", 1, "customer.created")
    assert CODEC.to_domain_event(stored) == ADA
    assert Codec(KEY).to_domain_event(stored) == ADA


def test_personal_data_is_not_in_the_stored_bytes() -> None:
    stored = CODEC.to_stored_event(ADA)
    state = stored_state(stored)
    # Decoded, because the letters of a short text can follow each other in base64 by chance.
    sealed = b64decode(state["sealed"])
    others = msgspec.json.encode({name: value for name, value in state.items() if name != "sealed"})
    for text in (b"Lovelace", b"example.com", b"London", b"James", b"cash", b"email", b"address"):
        assert text not in sealed + others
    assert CustomerCreated.PERSONAL.isdisjoint(state)
    assert (state["account"], state["tax_exempt"]) == ("acct_1", "none")


def test_the_same_event_is_sealed_differently_each_time() -> None:
    assert CODEC.to_stored_event(ADA).state != CODEC.to_stored_event(ADA).state


def test_an_event_without_personal_data_is_not_sealed() -> None:
    bare = dataclasses.replace(ADA, **ERASED)
    stored = CODEC.to_stored_event(bare)
    assert "sealed" not in stored_state(stored)
    assert CODEC.to_domain_event(stored) == bare


@pytest.mark.parametrize(
    "moved",
    [
        pytest.param({"originator_id": "cus_2"}, id="to another stream"),
        pytest.param({"originator_version": 2}, id="to another version"),
        pytest.param({"topic": "customer.updated"}, id="to another kind of event"),
    ],
)
def test_a_sealed_text_cannot_be_moved(moved: dict[str, Any]) -> None:
    stored = CODEC.to_stored_event(ADA)
    with pytest.raises(UnreadableRecord, match="cannot_be_opened: version "):
        CODEC.to_domain_event(dataclasses.replace(stored, **moved))


def test_a_sealed_text_cannot_be_changed() -> None:
    stored = CODEC.to_stored_event(ADA)
    state = stored_state(stored)
    raw = bytearray(b64decode(state["sealed"]))
    for place in (0, 12, len(raw) - 1):
        forged = bytearray(raw)
        forged[place] ^= 1
        state["sealed"] = b64encode(forged).decode()
        with pytest.raises(UnreadableRecord, match="cannot_be_opened: version "):
            CODEC.to_domain_event(dataclasses.replace(stored, state=msgspec.json.encode(state)))


def test_another_service_key_opens_nothing() -> None:
    with pytest.raises(UnreadableRecord, match="cannot_be_opened: version ") as refused:
        Codec(b"another service key of 32 bytes and more").to_domain_event(CODEC.to_stored_event(ADA))
    assert isinstance(refused.value.__cause__, InvalidTag)


def test_an_erased_event_decodes_with_none_in_the_place_of_personal_data() -> None:
    stored = CODEC.to_stored_event(ADA)
    state = stored_state(stored)
    del state["sealed"]
    erased = CODEC.to_domain_event(dataclasses.replace(stored, state=msgspec.json.encode(state)))
    assert erased == dataclasses.replace(ADA, **ERASED)


@pytest.mark.parametrize("text", ["ä €", "😀", "\x00\x1f", '"\\', "\u2028", "<script>"], ids=ascii)
def test_any_text_survives_encoding_and_decoding(text: str) -> None:
    event = CustomerUpdated(originator_id="cus_1", originator_version=2, at=NOW, changes={text: text})
    assert CODEC.to_domain_event(CODEC.to_stored_event(event)) == event


def test_the_librarys_stock_mapper_reads_and_writes_unsealed_events_the_same() -> None:
    stock: Mapper[str] = Mapper(JsonTranscoder())
    [created] = customer_session.create(
        session_id="cuss_1",
        account="acct_1",
        livemode=False,
        customer="cus_1",
        components={"customer_sheet": {"enabled": True}},
        terms=Terms(),
        now=NOW,
    )
    deleted = CustomerDeleted(originator_id="cus_1", originator_version=2, at=NOW)
    for event in (created, deleted):
        assert stock.to_domain_event(CODEC.to_stored_event(event)) == event
        assert CODEC.to_domain_event(stock.to_stored_event(event)) == event
        assert stock.to_stored_event(event) == CODEC.to_stored_event(event)


def test_every_event_class_is_found_by_its_topic() -> None:
    for event_class in EVENT_CLASSES:
        assert eventsourcing.utils.resolve_topic(event_class.TOPIC) is event_class
        assert eventsourcing.utils.get_topic(event_class) == event_class.TOPIC


@domain_event
class Renamed(DomainEvent):
    """A class as it may look after two changes of its shape."""

    TOPIC: ClassVar[str] = "test.renamed"
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"given_name", "family_name"})
    class_version: ClassVar[int] = 3

    given_name: str | None
    family_name: str | None
    source: str

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """v1 had one `name`, which was not marked personal."""
        state["given_name"], _, state["family_name"] = state.pop("name").partition(" ")

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        state["source"] = "unknown"


RENAMED_CODEC = Codec(KEY, [Renamed])


def test_old_shapes_are_upcast_to_the_current_one() -> None:
    stored = StoredEvent("cus_1", 1, "test.renamed", b'{"at":1,"name":"Ada Lovelace"}')
    expected = Renamed(
        originator_id="cus_1",
        originator_version=1,
        at=1,
        given_name="Ada",
        family_name="Lovelace",
        source="unknown",
    )
    assert RENAMED_CODEC.to_domain_event(stored) == expected
    assert vars(RENAMED_CODEC.to_domain_event(stored)) == vars(expected)


def test_the_current_shape_is_stored_with_its_version_and_not_upcast() -> None:
    event = Renamed(
        originator_id="cus_1", originator_version=1, at=1, given_name="Ada", family_name=None, source="form"
    )
    stored = RENAMED_CODEC.to_stored_event(event)
    assert stored_state(stored)["class_version"] == 3
    assert RENAMED_CODEC.to_domain_event(stored) == event
    lifted_once = dataclasses.replace(
        stored, state=msgspec.json.encode({**stored_state(stored), "class_version": 2})
    )
    assert getattr(RENAMED_CODEC.to_domain_event(lifted_once), "source", None) == "unknown"


def find_reason(codec: Codec, stored: StoredEvent) -> str:
    """The code with which decoding is refused; the refusal names the record and quotes nothing of it."""
    with pytest.raises(UnreadableRecord) as refused:
        codec.to_domain_event(stored)
    error = refused.value
    assert (error.stream, error.version) == (stored.originator_id, stored.originator_version)
    assert str(error) == f"{error.reason}: version {error.version}, topic {error.topic}"
    return error.reason


def test_a_record_that_cannot_be_read_says_why() -> None:
    def stored(state: bytes, topic: str = Renamed.TOPIC) -> StoredEvent:
        return StoredEvent("cus_1", 7, topic, state)

    expected = {
        stored(b"{}", "test.of_a_later_release"): "unknown_topic",
        stored(b"{}", ""): "unknown_topic",
        stored(b"?"): "not_json",
        stored(b"\xff"): "not_json",
        stored(b""): "not_json",
        stored(b'["at"]'): "not_json",
        stored(b'{"class_version":3,"at":1}'): "fields_missing",
        # More fields in all, but not all of this release's.
        stored(b'{"class_version":4,"at":1,"more":1,"and_more":2,"given_name":null}'): "newer_version",
        stored(b'{"class_version":"3","at":1}'): "cannot_be_upcast",
        stored(b'{"at":1}'): "cannot_be_upcast",
        stored(b'{"at":1,"sealed":"?"}'): "cannot_be_opened",
        stored(b'{"at":1,"sealed":[]}'): "cannot_be_opened",
    }
    assert {record: find_reason(RENAMED_CODEC, record) for record in expected} == expected


def test_a_later_version_that_has_all_fields_is_read() -> None:
    later = b'{"class_version":4,"at":1,"given_name":"Ada","family_name":null,"source":"form","more":1}'
    event = RENAMED_CODEC.to_domain_event(StoredEvent("cus_1", 1, Renamed.TOPIC, later))
    assert isinstance(event, Renamed)
    assert (event.given_name, event.source) == ("Ada", "form")


@pytest.mark.parametrize("topic", ["os:system", "os:system.created", "antigravity:fly", "this:s"])
def test_a_stored_topic_imports_nothing(topic: str) -> None:
    modules = set(sys.modules)
    assert find_reason(CODEC, StoredEvent("cus_1", 1, topic, b"{}")) == "unknown_topic"
    assert set(sys.modules) == modules


def test_a_damaged_topic_is_shown_in_one_printable_line() -> None:
    with pytest.raises(UnreadableRecord) as refused:
        CODEC.to_domain_event(StoredEvent("cus_1", 1, "\n\x1b[2J" + "x" * 1000, b"{}"))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200

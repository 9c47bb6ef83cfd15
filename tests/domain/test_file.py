"""Files and their links: the bounds on evidence, how a type is detected, when a link expires."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import file, file_link
from ledger.domain.file_link import FileLink, FileLinkUpdated
from ledger.errors import InvalidParameter, InvalidState
from tests.domain.builders import NOW, a_file, fold

FIVE_MEGABYTES = 5 * 1024 * 1024


def a_link(**given: Any) -> FileLink:
    made = file_link.create(
        a_file(), given, link_id="link_1", now=NOW, param="file", expires_param="expires_at"
    )
    return fold(file_link.evolve, made[:1])


@pytest.mark.parametrize(
    "given",
    [{}, {"size": FIVE_MEGABYTES}, {"pages": 49}, {"pages": None}, {"type": "jpg", "pages": None}],
)
def test_a_file_within_every_bound_may_be_evidence(given: dict[str, Any]) -> None:
    file.check_usable_as_evidence(a_file(**given), "evidence[receipt]")


@pytest.mark.parametrize(
    "given",
    [
        {"size": FIVE_MEGABYTES + 1},
        {"pages": 50},
        {"type": "gif"},
        {"type": None},
        {"purpose": "pci_document"},
    ],
)
def test_a_file_beyond_one_bound_may_not_be_evidence(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidState) as refusal:
        file.check_usable_as_evidence(a_file(**given), "evidence[receipt]")
    assert refusal.value.param == "evidence[receipt]"


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"\xff\xd8\xff\xe1", None, "jpg"),
        (b"\x89PNG\r\n\x1a\n", None, "png"),
        (b"\x89PNG", "a.png", None),
        (b"junk before %PDF-1.7", None, "pdf"),
        (b"GIF89a", None, "gif"),
        ("Ä;Ö".encode(), "A.CSV", "csv"),
        (b"text", None, "txt"),
        (b"te\0xt", "a.txt", None),
        (b"", "a.pdf", None),
    ],
)
def test_the_first_bytes_determine_the_type(head: bytes, name: str | None, kind: str | None) -> None:
    assert file.detect_type(head, name) == kind


def test_a_file_lists_its_newest_links_and_whether_there_are_more() -> None:
    state = a_file()
    for number in range(20):
        made = file_link.create(
            state, {}, link_id=f"link_{number}", now=NOW, param="file", expires_param="expires_at"
        )
        state = file.evolve(state, made[1])
    assert state.links == [f"link_{number}" for number in range(19, 8, -1)]
    assert state.version == 21


def test_a_link_expires_at_its_second() -> None:
    state = a_link(expires_at=NOW + 10)
    assert not file_link.is_expired(state, NOW + 9)
    assert file_link.is_expired(state, NOW + 10)
    assert not file_link.is_expired(a_link(), 2**62)


def test_a_link_can_be_changed_until_it_expires() -> None:
    state = a_link(expires_at=NOW + 10, metadata={"a": "1"})
    assert file_link.update(state, {"expires_at": NOW + 10, "metadata": {"a": "1"}}, now=NOW) == []
    (event,) = file_link.update(state, {"expires_at": None, "metadata": {"a": ""}}, now=NOW)
    assert isinstance(event, FileLinkUpdated)
    assert event.changes == {"expires_at": None, "metadata": {}}
    (event,) = file_link.update(state, {"expires_at": "now"}, now=NOW + 1)
    assert file_link.is_expired(file_link.evolve(state, event), NOW + 1)
    with pytest.raises(InvalidState):
        file_link.update(state, {"metadata": {}}, now=NOW + 10)


@pytest.mark.parametrize("expires_at", [NOW - 1, NOW])
def test_a_link_must_expire_in_the_future(expires_at: int) -> None:
    for make in (lambda: a_link(expires_at=expires_at),
                 lambda: file_link.update(a_link(), {"expires_at": expires_at}, now=NOW)):  # fmt: skip
        with pytest.raises(InvalidParameter) as refusal:
            make()
        assert refusal.value.param == "expires_at"

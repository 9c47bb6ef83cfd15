"""The marks are where the scans look for them: before an erasure an answer shows each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ledger.api.public.routes import OPERATIONS
from ledger.wire.parameters import Array, Hash, Metadata
from ledger.wire.scalars import Parameter, Text
from tests.erasure.answers import find_shown, read_all
from tests.erasure.markers import Person
from tests.erasure.stage import Stage
from tests.erasure.traces import plant, plant_guest

MARKS_MIN = 40
PLURALS = {
    "charges", "customers", "customer_sessions", "disputes", "file_links", "files", "payment_intents",
    "refunds",
}  # fmt: skip
NOT_PERSONAL = (
    "expand[]", "statement_descriptor", "statement_descriptor_suffix", "transfer_group", "invoice_prefix",
    "preferred_locales[]", "payment_method_types[]", "[default_payment_method]", "[template]",
    "payment_intent", "return_url",
)  # fmt: skip
"""Codes and ids, and what is not kept."""
_OPEN_NAME = re.compile(r"(?<=metadata)\[.*\]|(?<=metadata\])\[.*\]|\[\d+\]")
NEVER_SHOWN = {
    "refused email", "refused balance", "refused amount", "refused time", "refused metadata name",
    "refused metadata value",
}  # fmt: skip
"""Of refused parameters: no answer is kept, and the request log cuts out what was sent."""


def test_every_mark_is_shown_by_an_answer(stage: Stage) -> None:
    traces = plant(stage, Person("Ada"))
    stage.wait_for_projections()
    shown = find_shown(read_all(traces), traces)
    assert len(shown) > MARKS_MIN
    assert traces.person.marks.keys() - shown.keys() <= NEVER_SHOWN


def test_every_mark_of_a_guest_is_shown_by_an_answer(stage: Stage) -> None:
    traces = plant_guest(stage, Person("Ben"))
    stage.wait_for_projections()
    shown = find_shown(read_all(traces), traces)
    assert len(shown) > MARKS_MIN
    assert traces.person.marks.keys() == shown.keys()


def list_texts(members: Mapping[str, Parameter], prefix: str = "") -> Iterator[str]:
    """The names of the texts among parameters, as a form has them; `[]` for any index or name of metadata."""
    for key, parameter in members.items():
        name = f"{prefix}[{key}]" if prefix else key
        if isinstance(parameter, Array):
            name, parameter = f"{name}[]", parameter.item
        match parameter:
            case Hash():
                yield from list_texts(parameter.members, name)
            case Metadata():
                yield f"{name}[]"
            case Text():
                yield name


def test_every_text_that_a_person_can_leave_is_planted(stage: Stage) -> None:
    planted = {
        (request.path.split("/")[2], _OPEN_NAME.sub("[]", name))
        for request in plant(stage, Person("Ada")).sent
        for name in request.form or {}
    }
    texts = {
        ("disputes" if name.startswith("evidence") else plural, name)
        for operation in OPERATIONS
        if operation.method == "POST" and (plural := operation.path.split("/")[2]) in PLURALS
        for name in list_texts(operation.table.members)
    }
    assert {name for name in texts - planted if not name[1].endswith(NOT_PERSONAL)} == set()

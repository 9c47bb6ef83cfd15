"""The marks are where the scans look for them: before an erasure an answer shows each of them."""

from __future__ import annotations

from tests.erasure.answers import find_shown, read_all
from tests.erasure.markers import Person
from tests.erasure.stage import Stage
from tests.erasure.traces import plant, plant_guest

MARKS_MIN = 40
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

"""Redaction jobs and legal holds: what their decisions allow, and that no order of calls leads elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger.domain import legal_hold, redaction_job
from ledger.domain import redaction_job_decisions as decisions
from ledger.domain.event import DomainEvent
from ledger.domain.legal_hold import LegalHold
from ledger.domain.redaction_job import BEHAVIORS, RedactionJob
from ledger.domain.redaction_job_decisions import ERRORS_MAX, Obstacle, Scope
from ledger.domain.redaction_roots import find_owner, get_root_type, list_subjects
from ledger.errors import InvalidParameter, InvalidState
from tests.domain.builders import NOW, a_charge, a_customer, fold

OBSTACLES = st.lists(
    st.builds(Obstacle, st.sampled_from(["invalid_state", "locked_by_other_job"]), st.text(max_size=20)),
    max_size=3,
)
ACTIONS: dict[str, set[str]] = {
    "update": {"validating", "ready", "failed"},
    "validate": {"failed"},
    "run": {"ready"},
    "cancel": {"ready", "failed"},
    "complete": {"redacting", "succeeded"},
}
"""The statuses that allow an action (contract §2.15)."""
NEXT = {
    "created": {"validating"},
    "validating": {"ready", "failed"},
    "ready": {"redacting", "failed", "canceling"},
    "failed": {"validating", "canceling"},
    "redacting": {"succeeded"},
    "canceling": {"canceled"},
    "succeeded": set(),
    "canceled": set(),
}


def create(**overrides: Any) -> list[DomainEvent]:
    arguments: dict[str, Any] = {
        "job_id": "prj_1",
        "account": "acct_1",
        "livemode": False,
        "objects": {"customers": ["cus_1"]},
        "validation_behavior": "error",
        "now": NOW,
    }
    return decisions.create(**arguments | overrides)


def a_job(*steps: Callable[[RedactionJob], list[DomainEvent]], **overrides: Any) -> RedactionJob:
    events = create(**overrides)
    for step in steps:
        events = events + step(fold(redaction_job.evolve, events))
    return fold(redaction_job.evolve, events)


def pass_validation(job: RedactionJob) -> list[DomainEvent]:
    return decisions.end_validation(job, Scope(7, {}, [], []), new_error_id=str, now=NOW)


class JobMachine(RuleBasedStateMachine):
    """Any calls in any order: a job goes along the arrows of the contract, and what is refused changes
    nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[DomainEvent] = []
        self.numbers = 0

    @initialize(behavior=st.sampled_from(BEHAVIORS))
    def begin(self, behavior: str) -> None:
        self.take(create(validation_behavior=behavior))

    @property
    def job(self) -> RedactionJob:
        return fold(redaction_job.evolve, self.events)

    def take(self, events: list[DomainEvent]) -> None:
        before = self.job.status if self.events else "created"
        for event in events:
            self.events.append(event)
            after = self.job.status
            assert after == before or after in NEXT[before], (before, after)
            before = after

    def new_error_id(self) -> str:
        self.numbers += 1
        return f"prjve_{self.numbers}"

    def attempt(self, action: str, decide: Callable[[], list[DomainEvent]]) -> bool:
        allowed = self.job.status in ACTIONS[action]
        if not allowed:
            with pytest.raises(InvalidState, match=self.job.status):
                decide()
            return False
        self.take(decide())
        return True

    @rule(obstacles=OBSTACLES)
    def end_validation(self, obstacles: list[Obstacle]) -> None:
        was_validating = self.job.status == "validating"
        scope = Scope(7, {"customer": 1}, obstacles, ["pi_1"])
        events = decisions.end_validation(self.job, scope, new_error_id=self.new_error_id, now=NOW)
        assert bool(events) is was_validating
        self.take(events)
        if was_validating:
            assert (self.job.status == "failed") is bool(obstacles)
            assert len(self.job.validation_errors) == len(obstacles)

    @rule(behavior=st.sampled_from([None, *BEHAVIORS]))
    def update(self, behavior: str | None) -> None:
        status = self.job.status
        if self.attempt("update", lambda: decisions.update(self.job, behavior, now=NOW)):
            assert self.job.status == status
            assert behavior in (None, self.job.validation_behavior)

    @rule()
    def validate(self) -> None:
        if self.attempt("validate", lambda: decisions.validate(self.job, now=NOW)):
            assert self.job.validation_errors == []

    @rule(obstacles=OBSTACLES)
    def run_job(self, obstacles: list[Obstacle]) -> None:
        def decide() -> list[DomainEvent]:
            return decisions.run(self.job, ["cus_1"], obstacles, new_error_id=self.new_error_id, now=NOW)

        if self.attempt("run", decide):
            assert self.job.status == ("failed" if obstacles else "redacting")

    @rule()
    def cancel(self) -> None:
        self.attempt("cancel", lambda: decisions.cancel(self.job, now=NOW))

    @rule()
    def complete(self) -> None:
        if self.attempt("complete", lambda: decisions.complete(self.job, {"events": 1}, now=NOW)):
            assert decisions.complete(self.job, {"events": 2}, now=NOW) == []
            assert self.job.counts == {"events": 1}

    @invariant()
    def an_erasure_is_requested_once_and_ends_nothing_else(self) -> None:
        topics = [event.TOPIC for event in self.events]
        assert topics.count("redaction_job.run_requested") <= 1
        if "redaction_job.run_requested" in topics:
            after = topics[topics.index("redaction_job.run_requested") + 1 :]
            assert after in ([], ["redaction_job.succeeded"])
            assert self.job.subjects == ["cus_1"]

    @invariant()
    def versions_are_consecutive_and_only_a_failed_job_has_errors(self) -> None:
        if self.events:
            assert [event.originator_version for event in self.events] == list(range(1, len(self.events) + 1))
            assert bool(self.job.validation_errors) <= (self.job.status in ("failed", "canceled"))


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = settings(max_examples=60, stateful_step_count=25)


@pytest.mark.parametrize(
    ("objects", "param"),
    [
        ({}, "objects"),
        ({"customers": [], "charges": []}, "objects"),
        ({"customers": [f"cus_{number}" for number in range(11)]}, "objects"),
        ({"customers": ["cus_1"], "charges": ["ch_1", "cus_1"]}, "objects[charges][1]"),
    ],
)
def test_a_job_has_one_to_ten_objects_each_once(objects: dict[str, list[str]], param: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        create(objects=objects)
    assert refusal.value.param == param


def test_so_many_errors_are_kept() -> None:
    obstacles = [
        Obstacle("invalid_state", "x", f"dp_{number}", "dispute") for number in range(ERRORS_MAX + 1)
    ]
    (event,) = decisions.end_validation(a_job(), Scope(7, {}, obstacles, []), new_error_id=str, now=NOW)
    failed = redaction_job.evolve(a_job(), event)
    assert len(failed.validation_errors) == ERRORS_MAX


def test_of_two_jobs_that_are_validated_the_older_one_wins() -> None:
    older, newer = a_job(), a_job(job_id="prj_2", now=NOW + 1)
    assert (decisions.is_lock(older, newer), decisions.is_lock(newer, older)) == (True, False)
    ready = a_job(pass_validation, job_id="prj_2", now=NOW + 1)
    assert decisions.is_lock(ready, older)
    canceled = a_job(pass_validation, lambda job: decisions.cancel(job, now=NOW))
    assert not decisions.is_lock(canceled, newer)


def test_what_belongs_to_another_root_is_no_subject() -> None:
    customer = a_customer()
    own, single = a_charge(customer=customer.id), msgspec.structs.replace(a_charge(), id="ch_2")
    owner = find_owner(own)
    assert owner is not None
    assert (owner.noun, owner.id) == ("customer", customer.id)
    assert list_subjects([own, customer, single]) == [customer.id, single.id]
    assert list_subjects([own]) == [own.id]
    assert [get_root_type(each) for each in (customer, own)] == ["customer", "charge"]
    assert get_root_type(a_job()) is None


def test_a_hold_is_placed_and_released_in_turn() -> None:
    def place(hold: LegalHold | None) -> LegalHold:
        (event,) = legal_hold.place(
            hold, account="acct_1", livemode=False, object_id="ch_1", object_type="charge", reason="r",
            by="ops", now=NOW,
        )  # fmt: skip
        return legal_hold.evolve(hold, event)

    hold = place(None)
    assert (hold.active, hold.charge, hold.customer, hold.id) == (True, "ch_1", None, "hold_ch_1")
    with pytest.raises(InvalidState):
        place(hold)
    (event,) = legal_hold.release(hold, reason="over", by="ops", now=NOW + 1)
    released = legal_hold.evolve(hold, event)
    assert (released.active, released.released_at, released.created) == (False, NOW + 1, NOW)
    with pytest.raises(InvalidState):
        legal_hold.release(released, reason="over", by="ops", now=NOW + 2)
    assert (place(released).active, place(released).version) == (True, 3)

"""Redaction jobs: domain events and state (contract §2.15). The decisions are in `redaction_job_decisions`.

A job names root objects whose personal data is to be erased with all that belongs to them. It is validated
first, and then run by somebody who has seen the result. `RedactionJobRunRequested` is the request: with it
the keys of the roots can no longer be used, and nothing can stop the erasure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict

import msgspec

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.redaction.rules import Rule, redact_text

CREATED = "created"
VALIDATING = "validating"
READY = "ready"
FAILED = "failed"
REDACTING = "redacting"
SUCCEEDED = "succeeded"
CANCELING = "canceling"
CANCELED = "canceled"
STATUSES = (CANCELED, CANCELING, CREATED, FAILED, READY, REDACTING, SUCCEEDED, VALIDATING)

ERROR = "error"
FIX = "fix"
BEHAVIORS = (ERROR, FIX)

LOCKED_BY_OTHER_JOB = "locked_by_other_job"
"""The code of a validation error: another job has the object, and could erase it now."""


class ValidationError(TypedDict):
    """Why a job cannot run. `object_id` and `object_type` are of the object that stands in the way, None if
    it is no single one. The message holds no personal data."""

    id: str
    code: str
    message: str
    object_id: str | None
    object_type: str | None


@domain_event
class RedactionJobCreated(DomainEvent):
    """`objects` are the ids of the roots by the name of their list, such as `customers`.

    reason        why, in the words of the operator who asked for it; None for a job of the API
    requested_by  that operator; None for a job of the API
    first_requested_at  unix seconds: when the same erasure was requested in the database that a restored
                        backup lacks it of; None for any other job
    """

    TOPIC: ClassVar[str] = "redaction_job.created"
    REDACTION: ClassVar[Mapping[str, Rule]] = {"reason": redact_text}
    PERSONAL: ClassVar[frozenset[str]] = frozenset(REDACTION)

    account: str
    livemode: bool
    objects: dict[str, list[str]]
    validation_behavior: str
    reason: str | None = None
    requested_by: str | None = None
    first_requested_at: int | None = None


@domain_event
class RedactionJobValidationStarted(DomainEvent):
    """The job is to be validated, for the first time or again."""

    TOPIC: ClassVar[str] = "redaction_job.validation_started"


@domain_event
class RedactionJobValidated(DomainEvent):
    """Nothing stood in the way up to `position` of the log.

    reached     how many objects of each type the job reaches, roots too
    cancelable  ids of the payment intents that are canceled when it runs
    """

    TOPIC: ClassVar[str] = "redaction_job.validated"

    position: int
    reached: dict[str, int]
    cancelable: list[str]


@domain_event
class RedactionJobValidationFailed(DomainEvent):
    """The job cannot run, for these reasons: when it was validated, or when it was to run."""

    TOPIC: ClassVar[str] = "redaction_job.validation_failed"

    errors: list[ValidationError]


@domain_event
class RedactionJobUpdated(DomainEvent):
    """Whether validation reports what it could mend has changed."""

    TOPIC: ClassVar[str] = "redaction_job.updated"

    validation_behavior: str


@domain_event
class RedactionJobRunRequested(DomainEvent):
    """The erasure has begun. `subjects` are the data subjects of the roots: their keys are tombstoned by the
    append of this event."""

    TOPIC: ClassVar[str] = "redaction_job.run_requested"

    subjects: list[str]


@domain_event
class RedactionJobSucceeded(DomainEvent):
    """All that the job reaches is erased. `counts` is how much of what was rewritten or destroyed."""

    TOPIC: ClassVar[str] = "redaction_job.succeeded"

    counts: dict[str, int]


@domain_event
class RedactionJobCancelRequested(DomainEvent):
    """The job is to be abandoned; nothing of it was done."""

    TOPIC: ClassVar[str] = "redaction_job.cancel_requested"


@domain_event
class RedactionJobCanceled(DomainEvent):
    """The job was abandoned; it cannot be used again."""

    TOPIC: ClassVar[str] = "redaction_job.canceled"


EVENTS: tuple[type[DomainEvent], ...] = (
    RedactionJobCreated,
    RedactionJobValidationStarted,
    RedactionJobValidated,
    RedactionJobValidationFailed,
    RedactionJobUpdated,
    RedactionJobRunRequested,
    RedactionJobSucceeded,
    RedactionJobCancelRequested,
    RedactionJobCanceled,
)


class RedactionJob(State, frozen=True, kw_only=True):
    """A redaction job.

    created            unix seconds
    objects            ids of the roots by the name of their list
    validation_errors  of the current validation
    reached            how many objects of each type the last validation found, roots too
    validated_upto     position of the log up to which that one looked
    cancelable         ids of the payment intents that it found to be canceled
    subjects           data subjects of the roots, once it runs
    requested_at       unix seconds: when the erasure began; None before
    counts             what was erased, once it succeeded
    ended_at           unix seconds: when it succeeded or was canceled; None before
    """

    created: int
    objects: dict[str, list[str]]
    validation_behavior: str
    reason: str | None
    requested_by: str | None
    first_requested_at: int | None = None
    status: str = CREATED
    validation_errors: list[ValidationError] = msgspec.field(default_factory=list)
    reached: dict[str, int] = msgspec.field(default_factory=dict)
    validated_upto: int = 0
    cancelable: list[str] = msgspec.field(default_factory=list)
    subjects: list[str] = msgspec.field(default_factory=list)
    requested_at: int | None = None
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    ended_at: int | None = None

    @property
    def object_ids(self) -> list[str]:
        """The ids of all roots, in the order of the lists."""
        return [object_id for ids in self.objects.values() for object_id in ids]

    def passes_over(self, created: int) -> bool:
        """Whether what was there at this time (unix seconds) stands in the way no more: the same erasure was
        allowed later, in the database that a backup was restored from before."""
        return self.first_requested_at is not None and created <= self.first_requested_at


def evolve(state: RedactionJob | None, event: DomainEvent) -> RedactionJob:
    """The job after `event`. Raises TypeError for an event of another aggregate."""
    if isinstance(event, RedactionJobCreated):
        return RedactionJob(
            id=event.originator_id,
            version=event.originator_version,
            account=event.account,
            livemode=event.livemode,
            created=event.at,
            objects=event.objects,
            validation_behavior=event.validation_behavior,
            reason=event.reason,
            requested_by=event.requested_by,
            first_requested_at=event.first_requested_at,
        )
    if type(event) not in EVENTS:
        raise TypeError(f"{type(event).__name__} is not an event of a redaction job")
    assert state is not None
    return msgspec.structs.replace(state, version=event.originator_version, **_find_changes(event))


def _find_changes(event: DomainEvent) -> dict[str, Any]:
    """The fields that an event after the first changes."""
    match event:
        case RedactionJobValidationStarted():
            return {"status": VALIDATING, "validation_errors": []}
        case RedactionJobValidated():
            return {
                "status": READY,
                "reached": event.reached,
                "validated_upto": event.position,
                "cancelable": event.cancelable,
            }
        case RedactionJobValidationFailed():
            return {"status": FAILED, "validation_errors": event.errors}
        case RedactionJobUpdated():
            return {"validation_behavior": event.validation_behavior}
        case RedactionJobRunRequested():
            return {"status": REDACTING, "subjects": event.subjects, "requested_at": event.at}
        case RedactionJobSucceeded():
            return {"status": SUCCEEDED, "counts": event.counts, "ended_at": event.at}
        case RedactionJobCancelRequested():
            return {"status": CANCELING}
        case RedactionJobCanceled():
            return {"status": CANCELED, "ended_at": event.at}
    raise AssertionError(f"{type(event).__name__} changes nothing")

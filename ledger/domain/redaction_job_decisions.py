"""The decisions of redaction jobs (contract §2.15).

    created → validating → ready → redacting → succeeded
                 ↑   ↓       ↓ ↓
                 failed ←────┘ └→ canceling → canceled

A job that failed can be validated again, or be canceled. What stands in the way of a job is found by
`ledger/queries/redaction_scope`; the decisions here know the job alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ledger.domain.aggregate import State, next_header
from ledger.domain.event import DomainEvent
from ledger.domain.legal_hold import LegalHold
from ledger.domain.redaction_job import (
    CANCELED,
    CANCELING,
    FAILED,
    READY,
    REDACTING,
    SUCCEEDED,
    VALIDATING,
    RedactionJob,
    RedactionJobCanceled,
    RedactionJobCancelRequested,
    RedactionJobCreated,
    RedactionJobRunRequested,
    RedactionJobSucceeded,
    RedactionJobUpdated,
    RedactionJobValidated,
    RedactionJobValidationFailed,
    RedactionJobValidationStarted,
    ValidationError,
)
from ledger.errors import InvalidParameter, InvalidState

OBJECTS_MAX = 10
"""So many roots one job may have, as with Stripe."""
ERRORS_MAX = 100
"""So many validation errors are kept of one validation."""
ROOT_TYPES = {
    "charges": "charge",
    "checkout_sessions": "checkout.session",
    "customers": "customer",
    "identity_verification_sessions": "identity.verification_session",
    "invoices": "invoice",
    "issuing_cardholders": "issuing.cardholder",
    "issuing_cards": "issuing.card",
    "payment_intents": "payment_intent",
    "radar_value_list_items": "radar.value_list_item",
    "setup_intents": "setup_intent",
}
"""The lists of roots that a job may have, and the type of the objects in each."""


class Obstacle(NamedTuple):
    """What stands in the way of a job: a validation error without its id. `object_id` is of the object that
    the error is about, '' if it is no single one."""

    code: str
    message: str
    object_id: str = ""
    object_type: str = ""


class Scope(NamedTuple):
    """What a job reaches as of `position` of the log.

    reached     how many objects of each type, roots too
    obstacles   what stands in the way, at most ERRORS_MAX
    cancelable  ids of the payment intents that are canceled when the job runs: with the behavior `fix`
    """

    position: int
    reached: Mapping[str, int]
    obstacles: Sequence[Obstacle]
    cancelable: Sequence[str]


def create(
    *,
    job_id: str,
    account: str,
    livemode: bool,
    objects: Mapping[str, Sequence[str]],
    validation_behavior: str,
    now: int,
    reason: str | None = None,
    requested_by: str | None = None,
    first_requested_at: int | None = None,
) -> list[DomainEvent]:
    """A new job, whose validation has started. The caller has looked each object up.

    Raises InvalidParameter for no object, too many, and one that is named twice.
    """
    roots = {name: list(ids) for name, ids in objects.items() if ids}
    _check_roots(roots)
    created = RedactionJobCreated(
        originator_id=job_id,
        originator_version=1,
        at=now,
        account=account,
        livemode=livemode,
        objects=roots,
        validation_behavior=validation_behavior,
        reason=reason,
        requested_by=requested_by,
        first_requested_at=first_requested_at,
    )
    started = RedactionJobValidationStarted(originator_id=job_id, originator_version=2, at=now)
    return [created, started]


def update(state: RedactionJob, validation_behavior: str | None, *, now: int) -> list[DomainEvent]:
    """Changes the behavior of a job that does not run yet; does not validate it again. Returns [] if nothing
    changes. Raises InvalidState."""
    _check_status(state, "update", (VALIDATING, READY, FAILED))
    if validation_behavior in (None, state.validation_behavior):
        return []
    assert validation_behavior is not None
    return [RedactionJobUpdated(**next_header(state, now), validation_behavior=validation_behavior)]


def validate(state: RedactionJob, *, now: int) -> list[DomainEvent]:
    """Validates a job again that failed. Raises InvalidState."""
    _check_status(state, "validate", (FAILED,))
    return [RedactionJobValidationStarted(**next_header(state, now))]


def end_validation(
    state: RedactionJob,
    scope: Scope,
    *,
    new_error_id: Callable[[], str],
    now: int,
) -> list[DomainEvent]:
    """The result of the validation under way; [] if none is: another process was faster."""
    if state.status != VALIDATING:
        return []
    if scope.obstacles:
        return [_fail(state, scope.obstacles, new_error_id=new_error_id, now=now)]
    return [
        RedactionJobValidated(
            **next_header(state, now),
            position=scope.position,
            reached=dict(scope.reached),
            cancelable=list(scope.cancelable),
        )
    ]


def run(
    state: RedactionJob,
    subjects: Sequence[str],
    obstacles: Sequence[Obstacle],
    *,
    new_error_id: Callable[[], str],
    now: int,
) -> list[DomainEvent]:
    """Begins the erasure of the data subjects of the roots; or lets the job fail, if something stands in its
    way that was not there when it was validated. Raises InvalidState for a job that is not ready."""
    check_ready(state)
    if obstacles:
        return [_fail(state, obstacles, new_error_id=new_error_id, now=now)]
    return [RedactionJobRunRequested(**next_header(state, now), subjects=list(subjects))]


def check_ready(state: RedactionJob) -> None:
    """Raises InvalidState for a job that cannot be run."""
    _check_status(state, "run", (READY,))


def complete(state: RedactionJob, counts: Mapping[str, int], *, now: int) -> list[DomainEvent]:
    """All is erased: `counts` says how much of what. [] if that is recorded already. Raises InvalidState for
    a job whose erasure never began."""
    if state.status == SUCCEEDED:
        return []
    _check_status(state, "complete", (REDACTING,))
    return [RedactionJobSucceeded(**next_header(state, now), counts=dict(counts))]


def cancel(state: RedactionJob, *, now: int) -> list[DomainEvent]:
    """Abandons the job. Nothing of it was done, so it is canceled at once. Raises InvalidState for a job that
    is neither ready nor failed."""
    _check_status(state, "cancel", (READY, FAILED))
    requested = RedactionJobCancelRequested(**next_header(state, now))
    return [
        requested,
        RedactionJobCanceled(
            originator_id=state.id, originator_version=requested.originator_version + 1, at=now
        ),
    ]


def find_hold_obstacle(job: RedactionJob, hold: State | None) -> Obstacle | None:
    """The obstacle that a legal hold is; None if it is not active, or there is none."""
    if not isinstance(hold, LegalHold) or not hold.active or job.passes_over(hold.placed_at):
        return None
    text = "This object is under a legal hold, which must be released first."
    return Obstacle("invalid_state", text, hold.object_id, hold.object_type)


def is_lock(other: RedactionJob, state: RedactionJob) -> bool:
    """Whether another job that has a root of `state`'s keeps that one from running: it could run now, or it
    is validated and is the older one. None keeps one from being done again after a restore."""
    if state.first_requested_at is not None:
        return False
    if other.status == VALIDATING:
        return (other.created, other.id) < (state.created, state.id)
    return other.status in (READY, REDACTING)


def _check_roots(roots: Mapping[str, Sequence[str]]) -> None:
    if not roots:
        raise InvalidParameter("A redaction job must have at least one object.", param="objects")
    if sum(map(len, roots.values())) > OBJECTS_MAX:
        text = f"A redaction job can have at most {OBJECTS_MAX} objects."
        raise InvalidParameter(text, param="objects")
    seen: set[str] = set()
    for name, ids in roots.items():
        for index, object_id in enumerate(ids):
            if object_id in seen:
                param = f"objects[{name}][{index}]"
                raise InvalidParameter(f"'{object_id}' is given more than once.", param=param)
            seen.add(object_id)


def _check_status(state: RedactionJob, action: str, allowed: Sequence[str]) -> None:
    if state.status not in allowed:
        raise InvalidState(
            f"You cannot {action} this redaction job because it has a status of {state.status}. Only a "
            f"redaction job with one of the following statuses can be used for that: {', '.join(allowed)}."
        )


def _fail(
    state: RedactionJob, obstacles: Sequence[Obstacle], *, new_error_id: Callable[[], str], now: int
) -> RedactionJobValidationFailed:
    errors = [
        ValidationError(
            id=new_error_id(),
            code=each.code,
            message=each.message,
            object_id=each.object_id or None,
            object_type=each.object_type or None,
        )
        for each in obstacles[:ERRORS_MAX]
    ]
    return RedactionJobValidationFailed(**next_header(state, now), errors=errors)


ENDED = (SUCCEEDED, CANCELED, CANCELING)
"""The statuses of jobs that lock nothing and are not worked on any more."""

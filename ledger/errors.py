"""All errors that the ledger raises on purpose, as one tree. Only `api/errors.py` maps them to HTTP statuses.

LedgerError
├── SettingError                 a setting or its surroundings cannot be used: one line, the process exits
│   └── DataDirectoryInUse       another process uses the data directory
├── Unavailable                  the database cannot be used now; an append may have happened all the same
│   ├── FailedOver               another server is the primary now, and may lack what was read: decide again
│   └── ServiceKeyMissing        data is wrapped under a service key that this process does not have
├── StepAbandoned                a step of a background loop took too long; the loop begins another
├── QueueFull                    the append queue is full; nothing was changed
├── ConcurrencyConflict          the object changed during every attempt to decide; nothing was changed
├── UnreadableRecord             a record of the log cannot be read by this release with its key
├── DamagedTree                  the log and the Merkle tree over it do not agree: nothing is signed
└── RequestError                 the request is refused, in the contract's error envelope
    ├── InvalidParameter         unknown, missing or malformed; the one refusal that is not stored under
    │                            the request's idempotency key
    ├── UnknownReference         a parameter names an object that does not exist
    ├── UnknownObject            the object in the path does not exist
    │   ├── DisputeNotFound      the charge in the path exists, but has no dispute
    │   └── ContentsErased       the file in the path exists, but its contents were erased
    ├── UnknownRoute             no such URL, or not with this method
    ├── InvalidState             the object's state does not allow the change
    │   ├── ContentConflict          an id or a reference is used again, with other content
    │   ├── InvalidDisputeState      a network fact that cannot follow the dispute's state
    │   ├── InvalidIntentState       the payment intent's status does not allow the change
    │   ├── ObjectRedacted           the object's personal data was erased: it is inoperable
    │   ├── NotSealedYet             the record is in the log, but not yet in the Merkle tree: try again
    │   ├── InvalidProjectionState   an operator's request that the projection's state does not allow
    │   ├── InvalidWebhookState      an operator's request that the endpoint or the delivery does not allow
    │   └── InvalidAlertState        an operator's request that the alert or its receiver does not allow
    ├── CardError                the card was declined
    ├── Unauthenticated          no API key, an unknown one, or an expired one
    ├── Forbidden                the API key lacks the right
    ├── AccessNotRecorded        an access to the audit API that could not be recorded; nothing is shown
    ├── IdempotencyKeyReused     the idempotency key was first used with other parameters
    ├── SecretAlreadyIssued      a repeated creation of a secret, which is shown once and not stored
    └── RateLimited              too many requests
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

ERROR_CODES_URL = "https://stripe.com/docs/error-codes/"
TOPIC_SHOWN_CHARACTERS_MAX = 80


class LedgerError(Exception):
    """The root of the tree."""


class SettingError(LedgerError):
    """A setting, data directory, database or port cannot be used; `str()` is one line that says why."""


class DataDirectoryInUse(SettingError):
    """Another process uses the data directory; `holder_pid` is its process id, None while unknown."""

    def __init__(self, data_dir: object, holder_pid: int | None) -> None:
        super().__init__(f"data directory {data_dir} is in use by process {holder_pid or 'unknown'}")
        self.holder_pid = holder_pid


class Unavailable(LedgerError):
    """The database cannot be used now: unreachable, out of space, read-only. Retry later.

    An append that was under way may have happened all the same; a retry under the same idempotency key gets
    its reply if it did.
    """


class FailedOver(Unavailable):
    """Another server has become the primary, and may not have what was read before: decide again."""


class ServiceKeyMissing(Unavailable):
    """What is needed is wrapped under a service key that this process was not started with. The data is not
    damaged: it waits for a process that has the key."""

    def __init__(self, key_id: str, own_ids: tuple[str, ...]) -> None:
        super().__init__(
            f"data is wrapped under the service key {key_id}, and this process has {' and '.join(own_ids)}: "
            "start it with that key too (docs/operations.md, Replace the service key)"
        )


class StepAbandoned(LedgerError):
    """A step of a background loop took longer than it may, and was cancelled. The loop begins another."""


class QueueFull(LedgerError):
    """The append queue is full; nothing was changed. Retry after a pause."""


class ConcurrencyConflict(LedgerError):
    """A command was decided `attempts_max` times, and each time another one changed the object first."""


class UnreadableReason(StrEnum):
    """Why a record of the log cannot be read. The codes are shown to operators and kept with parked streams
    (docs/operations.md, "Records that cannot be read"), so they never change."""

    UNKNOWN_TOPIC = "unknown_topic"
    NEWER_VERSION = "newer_version"
    NOT_JSON = "not_json"
    FIELDS_MISSING = "fields_missing"
    CANNOT_BE_OPENED = "cannot_be_opened"
    CANNOT_BE_UPCAST = "cannot_be_upcast"
    CANNOT_BE_FOLDED = "cannot_be_folded"


HANDLER_RAISED = "handler_raised"
_UNREADABLE_REASONS = frozenset(reason.value for reason in UnreadableReason)


def parse_reason(error: str) -> str:
    """The code of a parked stream's `error`: an UnreadableReason, or `handler_raised` if its events can be
    read."""
    code = error.partition(":")[0]
    return code if code in _UNREADABLE_REASONS else HANDLER_RAISED


def printable_topic(topic: str) -> str:
    """A stored topic as logs and operators see it: a damaged one may hold any text."""
    return topic.encode("unicode_escape").decode()[:TOPIC_SHOWN_CHARACTERS_MAX]


class UnreadableRecord(LedgerError):
    """A record of the log that this release, with its service key, cannot read.

    `str()` names the reason, the version in the stream and the topic, and quotes nothing of the content.
    `detail` says where the error behind it was raised. `owner` is the account and mode of the stream, where
    the reader knows them.
    """

    owner: tuple[str, bool] | None = None

    def __init__(
        self, stream: str, version: int, topic: str, reason: UnreadableReason, *, detail: str = ""
    ) -> None:
        self.stream = stream
        self.version = version
        self.topic = printable_topic(topic)
        super().__init__(
            f"{reason}: version {version}, topic {self.topic}" + (f", {detail}" if detail else "")
        )
        self.reason = reason

    def to_log(self) -> dict[str, str | int]:
        """The fields of a log line about it."""
        return {
            "stream": self.stream,
            "version": self.version,
            "topic": self.topic,
            "reason": self.reason.value,
        }


class DamagedTree(LedgerError):
    """The log and the Merkle tree over it do not agree, or stored tiles are not what was signed. `str()` is
    one line that says where, and quotes nothing of the content."""


class RequestError(LedgerError):
    """A request is refused for a reason that its caller can act on; `message` is written for the caller.

    `code` and `param` are those of the contract; `param` is in bracket form (`evidence[receipt]`).
    `payment_intent` is the JSON of the payment intent that the error is about, as it is now.
    """

    payment_intent: dict[str, Any] | None = None

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


class InvalidParameter(RequestError):
    """A parameter is unknown, missing or malformed, whatever objects exist.

    The one refusal of a command that is not stored under its idempotency key: the key may then be used again
    with corrected parameters (contract §1.9).
    """


class UnknownReference(RequestError):
    """A parameter names an object that does not exist for this API key (`code` is `resource_missing`)."""

    def __init__(self, noun: str, object_id: str, *, param: str, hint: str = "") -> None:
        super().__init__(f"No such {noun}: '{object_id}'{hint}", code="resource_missing", param=param)


class UnknownObject(RequestError):
    """The object in the path does not exist for this API key (`code` is `resource_missing`)."""

    def __init__(self, noun: str, object_id: str, *, param: str = "id", hint: str = "") -> None:
        super().__init__(f"No such {noun}: '{object_id}'{hint}", code="resource_missing", param=param)


class DisputeNotFound(UnknownObject):
    """The charge in the path has no dispute."""

    def __init__(self, charge_id: str) -> None:
        RequestError.__init__(
            self, f"No dispute for charge: {charge_id}", code="resource_missing", param="id"
        )


class ContentsErased(UnknownObject):
    """The contents of a file were erased, or are being erased. What stays of the file still answers."""

    def __init__(self, file_id: str) -> None:
        RequestError.__init__(
            self, f"The contents of '{file_id}' were erased.", code="resource_missing", param="id"
        )


class UnknownRoute(RequestError):
    """There is no such URL, or not with this method."""


class InvalidState(RequestError):
    """The object's state does not allow this change; `param` is the parameter that asks for it."""


class ContentConflict(InvalidState):
    """An id, or a reference of the network, was used before with other content. `param` names the field that
    differs (`code` is `resource_already_exists`); the message repeats no value that may be personal."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message, code="resource_already_exists", param=param)


class InvalidDisputeState(InvalidState):
    """A network fact cannot follow the dispute's state (`code` is `dispute_state`)."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, code="dispute_state", param=param)


class InvalidIntentState(InvalidState):
    """The payment intent's status does not allow this change (`code` `payment_intent_unexpected_state`)."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, code="payment_intent_unexpected_state", param=param)


class ObjectRedacted(InvalidState):
    """The personal data of the object was erased, or is being erased; `param` is the parameter that names it,
    if the path does not."""

    def __init__(self, object_id: str, *, param: str | None = None) -> None:
        text = (
            f"{object_id} has been redacted: its personal data is erased, and it cannot be used or changed."
        )
        super().__init__(text, param=param)


class NotSealedYet(InvalidState):
    """A record, or a size of the log, is not yet in the Merkle tree (`code` is `not_sealed_yet`). Trying
    again after a moment helps."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, code="not_sealed_yet", param=param)


class InvalidProjectionState(InvalidState):
    """The projection's state does not allow what an operator requests (`code` is `projection_state`)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="projection_state")


class InvalidWebhookState(InvalidState):
    """The endpoint, the delivery or the replay does not allow what an operator requests (`code` is
    `webhook_state`)."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, code="webhook_state", param=param)


class InvalidAlertState(InvalidState):
    """The alert or the receiver does not allow what an operator requests (`code` is `alert_state`)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="alert_state")


class CardError(RequestError):
    """The card was declined. `charge` is the id of the failed charge, which exists."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        decline_code: str | None = None,
        charge: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.decline_code = decline_code
        self.charge = charge


class Unauthenticated(RequestError):
    """There is no API key, or it is unknown, or it has expired."""


class Forbidden(RequestError):
    """The API key lacks the right to do this."""


class AccessNotRecorded(RequestError):
    """An access to the audit API that could not be recorded: it is not answered. Retry later."""


class IdempotencyKeyReused(RequestError):
    """The idempotency key was first used with other parameters."""


class SecretAlreadyIssued(RequestError):
    """The object was created under this idempotency key before. Its secret was shown once and not stored."""


class RateLimited(RequestError):
    """Too many requests of an API key, or on an account."""


def make_doc_url(code: str) -> str:
    """The address of Stripe's documentation of an error code."""
    return ERROR_CODES_URL + code.replace("_", "-")

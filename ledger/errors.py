"""Everything that can go wrong, as one tree. The message of a `RequestError` is written for the caller;
only `api/errors.py` turns a class into a status code.

    LedgerError
    ├── SettingError             a wrong setting or surrounding: one clear line, the process exits
    ├── Unavailable              the database cannot take or give it now; perhaps it has taken it
    ├── Overloaded               the append queue is full; nothing was changed
    ├── Contended                the object kept changing while it was decided; nothing was changed
    └── Refused                  the request itself, told in the contract's error envelope
        ├── InvalidParameter     unknown, missing, malformed: by itself, so no idempotency key keeps it
        ├── UnknownReference     a parameter names an object that is not there
        ├── UnknownObject        the object in the path is not there
        │   └── DisputeNotFound      the charge in the path is, and has no dispute
        ├── UnknownRoute         no such URL or method
        ├── InvalidState         a rule of the object's state, `param` what it does not admit
        │   ├── InvalidDisputeState    what the network reports cannot follow what is known
        │   └── InvalidProjectionState what an operator asks, a projection's state does not admit
        ├── CardError          the card was declined
        ├── Unauthenticated      no key, or not one of ours
        ├── Forbidden            a key that may not do this
        ├── IdempotencyKeyReused            idempotency key used before with other parameters
        ├── SecretAlreadyIssued            idempotency key under which a secret was made: it is not kept,
        nor made again └── RateLimited          too many requests
"""

from __future__ import annotations


class LedgerError(Exception):
    """Root of the tree."""


class SettingError(LedgerError):
    """A setting, data directory, database or port that cannot be used; `str()` is one line."""


class Unavailable(LedgerError):
    """The store cannot answer now (unreachable, disk full, read-only). Retrying later is right.

    An append that was under way may have happened all the same: an idempotency key finds out.
    """


class QueueFull(LedgerError):
    """The bounded append queue is full. Retrying after a pause is right."""


class ConcurrencyConflict(LedgerError):
    """A command was decided again `attempts_max` times and lost the race each time."""


class RequestError(LedgerError):
    """A request refused for a reason the caller can act on.

    `code` and `param` are the contract's; `param` is in bracket form (`evidence[receipt]`).
    """

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


class InvalidParameter(RequestError):
    """A parameter that is unknown, missing or malformed, whatever there is. No other refusal of a command is
    left out from under its idempotency key, which may then be used with better ones (contract §1.9)."""


class UnknownReference(RequestError):
    """The object that a parameter names is not there for this key (`code` is `resource_missing`)."""

    def __init__(self, noun: str, object_id: str, *, param: str, hint: str = "") -> None:
        super().__init__(f"No such {noun}: '{object_id}'{hint}", code="resource_missing", param=param)


class UnknownObject(RequestError):
    """The object named in the path is not there for this key (`code` is `resource_missing`)."""

    def __init__(self, noun: str, object_id: str, *, param: str = "id", hint: str = "") -> None:
        super().__init__(f"No such {noun}: '{object_id}'{hint}", code="resource_missing", param=param)


class DisputeNotFound(UnknownObject):
    """The charge named in the path has no dispute."""

    def __init__(self, charge_id: str) -> None:
        RequestError.__init__(
            self, f"No dispute for charge: {charge_id}", code="resource_missing", param="id"
        )


class UnknownRoute(RequestError):
    """No such URL, or not with this method."""


class InvalidState(RequestError):
    """The object's state does not admit this change."""


class InvalidDisputeState(InvalidState):
    """A fact of the network that the object's state does not list (`code` is `dispute_state`)."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, code="dispute_state", param=param)


class InvalidProjectionState(InvalidState):
    """What an operator asks of a projection, its state does not admit (`code` is `projection_state`)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="projection_state")


class CardError(RequestError):
    """The card was declined; `charge` names the failed charge, which exists."""

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
    """No API key, one that is not known, or one that has expired."""


class Forbidden(RequestError):
    """A known key that may not do this."""


class IdempotencyKeyReused(RequestError):
    """An idempotency key that was first used with other parameters."""


class SecretAlreadyIssued(RequestError):
    """What was made under this idempotency key before is there, but its secret was told once and not kept."""


class RateLimited(RequestError):
    """Too many requests."""

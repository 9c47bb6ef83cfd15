"""One request, decoded: who sent it (`Cause`) and what it requests (`Call`). Commands and queries take a
`Call`; the log records its `Cause` with each event that results from it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ledger.wire.expansion import ExpandTree


class Cause(NamedTuple):
    """Who requested a change, in which mode, by which request.

    account          the account acted on
    livemode         whether in live mode: the mode of the key
    actor            the id of the key, `cli` for an import from the shell; None after a deadline
    request_id       None for a change without a request
    idempotency_key  the request's Idempotency-Key, if it had one
    reaction_to      id of the Event to which the caller reacts with the request, if it says so
    """

    account: str
    livemode: bool
    actor: str | None
    request_id: str | None
    idempotency_key: str | None
    reaction_to: str | None = None


class Call(msgspec.Struct, frozen=True):
    """The input of a command or a query.

    target       the id in the path; empty where the path has none
    part         the second id in the path, of an object that belongs to the target; empty likewise
    parameters   the parsed values of the operation's parameter table, without `expand`
    as_platform  the key's account is a platform that acts on an account connected to it
    base_url     the service's own URL without a path, as the caller knows it
    """

    cause: Cause
    target: str
    parameters: dict[str, Any]
    expand: ExpandTree = msgspec.field(default_factory=dict)
    part: str = ""
    as_platform: bool = False
    base_url: str = ""

    @property
    def account(self) -> str:
        """The account acted on."""
        return self.cause.account

    @property
    def livemode(self) -> bool:
        """Whether the call is in live mode."""
        return self.cause.livemode

    def replace(self, **fields: Any) -> Call:
        """The same call with other values of some fields."""
        return msgspec.structs.replace(self, **fields)

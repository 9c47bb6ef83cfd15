"""Whose personal data the stored reply of a command may have: under that data subject's key it is sealed."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.domain.subjects import find_subject
from ledger.store.journal import Change
from ledger.wire.aggregates import AGGREGATES

_HAS_PERSONAL_DATA = {row.state: any(event.PERSONAL for event in row.module.EVENTS) for row in AGGREGATES}


def choose_reply_subject(
    call: Call, context: DecisionContext, changes: Sequence[Change], *, is_refusal: bool
) -> str | None:
    """The subject of the first object that a command changed, else of the first that it read: what it shows
    beside that belongs to the same one. Where neither the object nor an expanded one can have personal data
    it is None: a customer session, mostly. A refusal is then sealed for the account: it quotes what was
    asked for as an id, and that may be anything."""
    state = changes[0].state if changes else context.first_read
    if state is not None and (call.expand or _HAS_PERSONAL_DATA[type(state)]):
        return find_subject(state)
    return call.cause.account if is_refusal else None

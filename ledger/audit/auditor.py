"""Who asks about history, and what the answer may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Auditor:
    """A caller with the scope `audit`, who sees one account in one mode and nothing else.

    actor                the id of the key, or `cli`
    shows_personal_data  whether the caller has the scope `personal_data`; else personal data is shown as if
                         it had been erased: as null
    """

    account: str
    livemode: bool
    actor: str
    shows_personal_data: bool = False

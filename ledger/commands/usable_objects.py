"""Objects that a command uses or changes: a redacted one is inoperable, as in Stripe's API.

What the network reports and what follows from the passage of time is recorded of redacted objects too: the
commands for those read them by `ledger/objects`.
"""

from __future__ import annotations

from ledger.call import Call
from ledger.domain.aggregate import check_not_redacted
from ledger.objects import Fetch, Kind, get_param, get_target


async def get_usable(call: Call, kind: type[Kind], fetch: Fetch) -> Kind:
    """The object that the path names, for a change of it. Raises what `get_target` raises, and ObjectRedacted
    once its personal data was erased."""
    state = await get_target(call, kind, fetch)
    check_not_redacted(state)
    return state


async def get_usable_param(call: Call, kind: type[Kind], param: str, object_id: str, fetch: Fetch) -> Kind:
    """The object that the parameter `param` names, for a change that uses it. Raises what `get_param` raises,
    and ObjectRedacted once its personal data was erased."""
    state = await get_param(call, kind, param, object_id, fetch)
    check_not_redacted(state, param)
    return state

"""Filters of deliveries: those of a list, and of a retry of many, as the columns of a delivery have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

from ledger.domain.webhook_endpoint import EVENT_TYPE_WILDCARD
from ledger.errors import InvalidParameter
from ledger.ids import encode_base62
from ledger.webhooks.deliveries import DeliveryState
from ledger.wire.event_destinations import PING_TYPE
from ledger.wire.event_types import expand_patterns
from ledger.wire.thin_events import to_snapshot_id, to_snapshot_type

STATES: Sequence[str] = get_args(DeliveryState)
_SECONDS_MAX = 2**38  # ids hold milliseconds in 48 bits


class DeliveryFilters(NamedTuple):
    """Which deliveries a page has. `types` are types of Events, or patterns such as `charge.*`; `created`
    maps `gt`, `gte`, `lt` and `lte` to unix seconds."""

    endpoint: str | None = None
    events: Sequence[str] = ()
    states: Sequence[str] = ()
    types: Sequence[str] = ()
    created: Mapping[str, int] = {}
    replay: str | None = None


def check_states(states: Sequence[str], allowed: Sequence[str] = STATES) -> None:
    """Raises InvalidParameter for a state that is not allowed."""
    for state in states:
        if state not in allowed:
            raise InvalidParameter(f"Invalid state: must be one of {', '.join(allowed)}", param="state")


def list_event_ids(events: Sequence[str]) -> list[str]:
    """The ids that deliveries of these Events have: their own, or those of their snapshots."""
    snapshots = [to_snapshot_id(event) for event in events]
    return [*events, *(snapshot for snapshot in snapshots if snapshot is not None)]


def list_delivery_types(patterns: Sequence[str], param: str = "type") -> list[str] | None:
    """The types that deliveries have whose type, or that of its twin, matches one of the patterns; None for
    all. Raises InvalidParameter."""
    if not patterns or EVENT_TYPE_WILDCARD in patterns:
        return None
    of_pings = [PING_TYPE] if PING_TYPE in patterns else []
    others = [to_snapshot_type(pattern) or pattern for pattern in patterns if pattern != PING_TYPE]
    return [*of_pings, *expand_patterns(others, param)]


def bound_ids(created: Mapping[str, int]) -> tuple[str, str]:
    """The first id of the deliveries made in these seconds, and the first id after them."""
    first = max([created.get("gte", 0), created.get("gt", -1) + 1])
    end = min([created.get("lt", _SECONDS_MAX), created.get("lte", _SECONDS_MAX - 1) + 1])
    return make_first_id(first), make_first_id(end)


def make_first_id(created: float) -> str:
    """The smallest id of a delivery made at `created` (unix seconds) or later."""
    return "dlv_" + encode_base62(int(min(max(created, 0), _SECONDS_MAX) * 1000) << 80)

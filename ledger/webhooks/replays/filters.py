"""Which Events a replay sends: the filters that a caller gives, checked, and as positions of the log.

The Events are those of the endpoint's account and mode, or of the accounts connected to it, as for any
delivery; of the types that it is subscribed to now. It need not have existed when they occurred.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from ledger.domain.webhook_endpoint import (
    EVENT_TYPE_WILDCARD,
    FROM_ACCOUNTS,
    FROM_SELF,
    WebhookEndpoint,
)
from ledger.errors import InvalidParameter, InvalidWebhookState, UnknownReference
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.store.codec import Codec
from ledger.store.positions import find_last_position
from ledger.webhooks.history.owners import read_endpoint
from ledger.webhooks.subscriptions import Owner, list_snapshot_types
from ledger.wire.event_types import EVENT_TYPES, expand_event_types
from ledger.wire.thin_events import to_snapshot_type

TYPES_MAX = 100
TIME_MAX = 32_503_680_000  # the year 3000

_HEAD = "SELECT position FROM ledger.head"
_CONNECTED_ACCOUNTS = """
SELECT id FROM ledger.accounts WHERE platform = %(account)s AND id <> %(account)s ORDER BY id
"""
_OWNER_OF_STREAM = """
SELECT account, livemode FROM ledger.events WHERE originator_id = %(stream)s AND originator_version = 1
"""


class ReplayRequest(NamedTuple):
    """What a caller asks for.

    window_from  unix seconds, included
    window_to    unix seconds, not included; None: all that is recorded by now
    types        event types, or patterns such as `charge.*`; none: all that the endpoint is subscribed to
    only_failed  only Events that the endpoint was owed and that were given up or dropped
    object       only Events of this object
    """

    endpoint: str
    window_from: int
    window_to: int | None = None
    types: Sequence[str] = ()
    only_failed: bool = False
    object: str | None = None


class ReplayFilter(NamedTuple):
    """A request as it selects Events: the positions after `after` and up to `upto`. `types` are those of
    snapshots, None for all; `account`, `livemode`, `thin` and `events_from` are the endpoint's."""

    endpoint: str
    account: str
    livemode: bool
    thin: bool
    events_from: Sequence[str]
    window_from: int
    window_to: int
    after: int
    upto: int
    types: frozenset[str] | None
    only_failed: bool
    object: str | None

    def wants(self, event_type: str) -> bool:
        """Whether Events of this type are sent."""
        return self.types is None or event_type in self.types


async def resolve_filter(
    conn: Conn, codec: Codec, request: ReplayRequest, *, now: float, owner: Owner | None
) -> ReplayFilter:
    """The filter that the request asks for at `now` (unix seconds). `owner` is the caller's account and
    mode; None for an operator's shell, which reaches every endpoint.

    Raises InvalidParameter, UnknownReference and InvalidWebhookState, which name the parameter, and
    UnreadableRecord when the endpoint cannot be read.
    """
    endpoint = await _read_endpoint(conn, codec, request.endpoint, owner)
    now_next = int(now) + 1
    window_to = now_next if request.window_to is None else request.window_to
    _check_window(request.window_from, window_to, now_next)
    types = resolve_types(request.types, endpoint)
    if request.object is not None:
        await _check_object(conn, request.object, endpoint)
    after = await find_last_position(conn, datetime.fromtimestamp(request.window_from, UTC))
    if request.window_to is None:
        row = await fetch_one(conn, _HEAD)
        assert row is not None
        upto = int(row[0])
    else:
        upto = await find_last_position(conn, datetime.fromtimestamp(window_to, UTC))
    return ReplayFilter(
        endpoint.id, endpoint.account, endpoint.livemode, endpoint.is_thin, endpoint.destination.events_from,
        request.window_from, window_to, after, max(after, upto), types, request.only_failed, request.object,
    )  # fmt: skip


async def list_accounts_of(conn: Conn, account: str, events_from: Sequence[str]) -> list[str]:
    """The accounts whose Events an endpoint of `account` gets."""
    accounts = [account] if FROM_SELF in events_from else []
    if FROM_ACCOUNTS in events_from:
        accounts += [row[0] for row in await fetch_all(conn, _CONNECTED_ACCOUNTS, {"account": account})]
    return accounts


def resolve_types(asked: Sequence[str], endpoint: WebhookEndpoint) -> frozenset[str] | None:
    """The types that a replay sends, as snapshots have them; None for all. An endpoint of thin events may be
    asked for the types of those. Raises InvalidParameter for an unknown type, and for one that the endpoint
    is not subscribed to: no receiver gets what it does not expect."""
    if len(asked) > TYPES_MAX:
        raise InvalidParameter(
            f"Too many types: {len(asked)}; at most {TYPES_MAX} are allowed.", param="types"
        )
    takes_all = EVENT_TYPE_WILDCARD in endpoint.enabled_events
    subscribed = frozenset(EVENT_TYPES if takes_all else list_snapshot_types(endpoint))
    everything = None if takes_all else subscribed
    if not asked:
        return everything
    chosen: set[str] = set()
    for number, name in enumerate(asked):
        pattern = (to_snapshot_type(name) or name) if endpoint.is_thin else name
        known = expand_event_types(pattern, f"types[{number}]")
        if not known & subscribed:
            raise InvalidParameter(
                f"The endpoint {endpoint.id} is not subscribed to '{name}': add it to the endpoint's "
                "enabled_events first.",
                param=f"types[{number}]",
            )
        chosen |= known & subscribed
    return everything if EVENT_TYPE_WILDCARD in asked else frozenset(chosen)


async def _read_endpoint(conn: Conn, codec: Codec, endpoint_id: str, owner: Owner | None) -> WebhookEndpoint:
    unknown = UnknownReference("webhook endpoint", endpoint_id, param="endpoint")
    if "\0" in endpoint_id:
        raise unknown  # no text of the log has this character
    endpoint = await read_endpoint(conn, codec, endpoint_id)
    if endpoint is None or endpoint.deleted or owner not in (None, (endpoint.account, endpoint.livemode)):
        raise unknown
    if endpoint.disabled:
        raise InvalidWebhookState(
            f"The endpoint {endpoint.id} is disabled: nothing is sent to it. Enable it first.",
            param="endpoint",
        )
    return endpoint


def _check_window(window_from: int, window_to: int, now_next: int) -> None:
    if window_from >= now_next:
        raise InvalidParameter("`from` is in the future.", param="from")
    if window_to > now_next:
        raise InvalidParameter(
            "`to` is in the future: only what has been recorded can be replayed.", param="to"
        )
    if window_to == window_from:
        raise InvalidParameter(
            "The window is empty: `to` is not included, so it must be after `from`.", param="to"
        )
    if window_to < window_from:
        raise InvalidParameter("`to` is before `from`.", param="to")


async def _check_object(conn: Conn, object_id: str, endpoint: WebhookEndpoint) -> None:
    """Raises UnknownReference when the endpoint gets no Events of such an object."""
    accounts = await list_accounts_of(conn, endpoint.account, endpoint.destination.events_from)
    row = None if "\0" in object_id else await fetch_one(conn, _OWNER_OF_STREAM, {"stream": object_id})
    if row is None or row[0] not in accounts or row[1] != endpoint.livemode:
        raise UnknownReference("object", object_id, param="object")

"""The history of one object: every change, who made it and why, and what it changed in the object's JSON.

A page needs the state before its first change. That is folded from the newest state that this process has
kept: so the first page of an object with many versions may decode all of them, and the next ones only their
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from ledger.audit.auditor import Auditor
from ledger.audit.causes import render_actor, render_causation
from ledger.audit.differences import Views, describe_differences
from ledger.audit.moments import format_time
from ledger.audit.objects import NOUN, make_unreadable_error, render_views
from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.domain.webhook_endpoint import (
    WebhookEndpointConfigured,
    WebhookEndpointDisabled,
    WebhookEndpointSecretRotated,
)
from ledger.errors import InvalidParameter, UnknownObject, UnreadableRecord
from ledger.postgres.connections import Conn, fetch_one
from ledger.queries.context import QueryContext
from ledger.store.past_streams import Codecs, PastStreams
from ledger.wire.json_values import Json, make_list_object
from ledger.wire.public_events import derive_event_id, derive_public_event_types

Order = Literal["asc", "desc"]

# The cursor is the position of one of the object's changes, or a version.
_BOUNDS = """
SELECT first.account, first.livemode,
       (SELECT e.originator_version FROM ledger.events e WHERE e.originator_id = first.originator_id
        ORDER BY e.originator_version DESC LIMIT 1),
       coalesce(%(version)s::integer, (SELECT e.originator_version FROM ledger.events e
        WHERE e.notification_id = %(cursor)s AND e.originator_id = first.originator_id))
FROM ledger.events first
WHERE first.originator_id = %(id)s AND first.originator_version = 1
"""
# Of a key of another account, such as a platform's, only the id is shown.
_CHANGES = """
SELECT e.originator_version, e.topic, e.state, e.notification_id,
       extract(epoch FROM e.recorded_at)::float8, e.actor, k.name, k.kind, k.livemode, k.last4,
       e.request_id, e.idempotency_key, e.causation
FROM ledger.events e
LEFT JOIN ledger.api_keys k ON k.id = e.actor AND k.account = e.account
WHERE e.originator_id = %(id)s AND e.originator_version > %(after)s AND e.originator_version <= %(upto)s
ORDER BY e.originator_version
"""
# Of these events the object's JSON shows nothing, or not why: fields that have no personal data.
_DETAILS: Mapping[type[DomainEvent], Sequence[str]] = {
    WebhookEndpointConfigured: ("changes",),
    WebhookEndpointSecretRotated: ("secret_version", "previous_valid_until"),
    WebhookEndpointDisabled: ("failing_since", "failed_attempts", "status", "error"),
}


class _Row(NamedTuple):
    """One stored change."""

    version: int
    topic: str
    stored: bytes
    position: int
    recorded_at: float
    actor: str | None
    key_name: str | None
    key_kind: str | None
    key_livemode: bool | None
    key_last4: str | None
    request_id: str | None
    idempotency_key: str | None
    causation: str | None


class _Cursor(NamedTuple):
    """After which change a page begins: the one at a position, or of a version."""

    position: int | None
    version: int | None


class _Page(NamedTuple):
    """The versions after `after` up to `upto`."""

    after: int
    upto: int
    has_more: bool


async def read_history(
    context: QueryContext,
    auditor: Auditor,
    object_id: str,
    *,
    limit: int = 10,
    starting_after: int | None = None,
    starting_after_version: int | None = None,
    order: Order = "asc",
) -> Json:
    """A page of the object's changes as a list object; `starting_after` is the position of one.

    starting_after_version  instead: the page begins after this version, which need not exist

    Raises UnknownObject, InvalidParameter for a position that is none of the object's and for both cursors,
    InternalError when one of its records cannot be read.
    """
    if starting_after is not None and starting_after_version is not None:
        raise InvalidParameter(
            "You may only specify one of these parameters: starting_after, starting_after_version.",
            param="starting_after_version",
        )
    cursor = _Cursor(starting_after, starting_after_version)
    if "\0" in object_id or not object_id.isprintable():
        raise UnknownObject(NOUN, object_id)

    async def fetch(conn: Conn) -> tuple[_Page, list[_Row], Codecs, State | None, State | None]:
        page = await _find_page(conn, auditor, object_id, limit, cursor, order)

        def get_kept(opened: bool) -> State | None:
            return streams.get_cached(object_id, opened=opened, version_max=page.after)

        whole, closed = get_kept(True), None if auditor.shows_personal_data else get_kept(False)
        needed = (whole,) if auditor.shows_personal_data else (whole, closed)
        after = min(state.version if state else 0 for state in needed)
        cur = conn.cursor(binary=True)
        await cur.execute(_CHANGES, {"id": object_id, "after": after, "upto": page.upto})
        rows = [_Row(*row) for row in await cur.fetchall()]
        codecs = await streams.prepare(conn, [(object_id, *row[:3]) for row in rows])
        return page, rows, codecs, whole, closed

    streams = context.store.past_streams
    page, rows, codecs, whole, closed = await streams.complete(lambda: context.reads.run_idempotent(fetch))
    try:
        entries = _list_changes(streams, codecs, auditor, object_id, page, rows, whole, closed)
    except UnreadableRecord as error:
        raise make_unreadable_error(object_id, error) from error
    if order == "desc":
        entries.reverse()
    url = f"/internal/v1/audit/objects/{object_id}/history"
    return make_list_object(entries, url, has_more=page.has_more)


async def _find_page(
    conn: Conn, auditor: Auditor, object_id: str, limit: int, cursor: _Cursor, order: Order
) -> _Page:
    parameters = {"id": object_id, "cursor": cursor.position, "version": cursor.version}
    row = await fetch_one(conn, _BOUNDS, parameters)
    if row is None or (row[0], row[1]) != (auditor.account, auditor.livemode):
        raise UnknownObject(NOUN, object_id)
    last, cursor_version = row[2], row[3]
    if cursor.position is not None and cursor_version is None:
        raise InvalidParameter(
            f"Invalid starting_after: position {cursor.position} is none of this object's changes.",
            param="starting_after",
        )
    if order == "asc":
        after = min(cursor_version or 0, last)
        return _Page(after, min(after + limit, last), after + limit < last)
    upto = last if cursor_version is None else max(min(cursor_version - 1, last), 0)
    after = max(upto - limit, 0)
    return _Page(after, upto, after > 0)


def _list_changes(
    streams: PastStreams,
    codecs: Codecs,
    auditor: Auditor,
    object_id: str,
    page: _Page,
    rows: Sequence[_Row],
    whole: State | None,
    closed: State | None,
) -> list[Json]:
    """The entries of the page, oldest first. `whole` and `closed` are kept states of versions before it, with
    personal data and without. Raises UnreadableRecord."""
    entries = []
    for row in rows:
        whole_before, closed_before = whole, closed
        event: DomainEvent | None = None
        if whole is None or row.version > whole.version:
            whole, event = streams.evolve(codecs, object_id, row[:3], whole, opened=True)
        if not auditor.shows_personal_data and (closed is None or row.version > closed.version):
            closed, _ = streams.evolve(codecs, object_id, row[:3], closed, opened=False)
        if row.version == page.after:
            _keep(streams, whole, closed)
        if row.version > page.after:
            assert event is not None, "the states that were kept are of versions before the page"
            before = render_views(whole_before, closed_before, event.at)
            entries.append(_render(row, event, before, render_views(whole, closed, event.at)))
    _keep(streams, whole, closed)
    return entries


def _keep(streams: PastStreams, whole: State | None, closed: State | None) -> None:
    for state, opened in ((whole, True), (closed, False)):
        if state is not None:
            streams.keep(state, opened=opened)


def _render(
    row: _Row,
    event: DomainEvent,
    before: Views,
    after: Views,
) -> Json:
    """One change. Both versions are rendered as of the second in which it was decided, as in its Events."""
    return {
        "position": row.position,
        "version": row.version,
        "time": format_time(row.recorded_at),
        "type": row.topic,
        "actor": render_actor(row.actor, row.key_name, row.key_kind, row.key_livemode, row.key_last4),
        "request_id": row.request_id,
        "idempotency_key": row.idempotency_key,
        "causation": render_causation(row.causation),
        "changes": describe_differences(before, after, event),
        "details": {name: getattr(event, name) for name in _DETAILS.get(type(event), ())},
        "events": [
            {"id": derive_event_id(event, ordinal, row.recorded_at), "type": event_type}
            for ordinal, event_type in enumerate(derive_public_event_types(event))
        ],
    }

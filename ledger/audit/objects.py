"""Objects as they were: one as of a moment, and what differs between two moments.

Everything is folded from the log, so it holds for any time since the first event, and after a deletion. A
moment's time is also the time at which the object is rendered: so a deadline is past due from its time on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog

from ledger.audit.auditor import Auditor
from ledger.audit.differences import NOTHING, Views, describe_differences
from ledger.audit.moments import Moment, MomentQuery, format_time, parse_moment
from ledger.audit.object_json import render_whole_object
from ledger.call import Call, Cause
from ledger.commands.execution import InternalError
from ledger.domain.aggregate import State
from ledger.domain.file import File
from ledger.domain.file_link import FileLink
from ledger.domain.resource import Resource
from ledger.errors import InvalidParameter, UnknownObject, UnreadableRecord
from ledger.objects import Fetch, expand, get_readable, is_visible, mode_hint, share_reads
from ledger.postgres.connections import Conn, fetch_one
from ledger.queries.context import QueryContext
from ledger.store.past_streams import PastRead
from ledger.wire.aggregates import AGGREGATES_BY_STATE
from ledger.wire.expansion import EXPANDABLE_FIELDS, ExpandTree, parse_expand
from ledger.wire.files import add_urls
from ledger.wire.json_values import Json

NOUN = "object"
_CREATION = """
SELECT notification_id, extract(epoch FROM recorded_at)::float8 FROM ledger.events
WHERE originator_id = %(id)s AND originator_version = 1 AND account = %(account)s AND livemode = %(livemode)s
"""

log = structlog.get_logger()


class _Found(NamedTuple):
    """An object as of a moment; None before its creation."""

    moment: Moment
    state: State | None

    def describe(self) -> Json:
        """What answers say about the moment; version 0 is before the creation."""
        return {**self.moment.to_json(), "version": self.state.version if self.state else 0}


async def read_object(
    context: QueryContext,
    auditor: Auditor,
    object_id: str,
    at: str | None,
    *,
    expand_paths: Sequence[str] = (),
    base_url: str = "",
) -> Json:
    """`{as_of, redaction, object}`: the object as the public API showed it at the moment `at` (default: now),
    with what `expand_paths` name as of the same moment, and without secrets. What was erased since is shown
    as it is now: as what stays of it.

    Raises UnknownObject, for a moment before its creation with the time of that; InvalidParameter,
    InternalError when one of its records cannot be read.
    """
    query = parse_moment(context.store.clock, at)
    found = await _find(context, auditor, object_id, query, opened=auditor.shows_personal_data)
    if found.state is None:
        raise await _make_missing_error(context, auditor, object_id, found.moment)
    tree = _parse_expand(expand_paths, found.state)
    shown = render_whole_object(found.state, int(found.moment.time))
    await expand_then(context, auditor, found.state, shown, found.moment, tree, base_url)
    return {"as_of": found.describe(), "redaction": found.state.redaction or None, "object": shown}


async def compare_object(
    context: QueryContext, auditor: Auditor, object_id: str, start: str, end: str | None
) -> Json:
    """`{as_of, changes}`: what differs between the object at the moment `start` and at the moment `end`
    (default: now). Before its creation it has no members.

    Raises UnknownObject for an object that did not exist at `end`, InvalidParameter, InternalError.
    """
    queries = [
        (param, parse_moment(context.store.clock, text, param=param))
        for param, text in (("from", start), ("to", end))
    ]
    old, new = await asyncio.gather(
        *(_find(context, auditor, object_id, query, opened=True, param=param) for param, query in queries)
    )
    until = queries[1][1].until  # a time without a fraction is the end of its second
    end_time = new.moment.time if until is None else until.timestamp()
    if old.moment.position > new.moment.position or old.moment.time > end_time:
        raise InvalidParameter("Invalid from: it is later than `to`.", param="from")
    if new.state is None:
        raise await _make_missing_error(context, auditor, object_id, new.moment)
    closed: list[State | None] = [None, None]
    if not auditor.shows_personal_data:
        positions = (MomentQuery(found.moment.position, 0.0, None) for found in (old, new))
        closed = [
            found.state
            for found in await asyncio.gather(
                *(_find(context, auditor, object_id, position, opened=False) for position in positions)
            )
        ]
    before, after = (
        render_views(found.state, state, int(found.moment.time))
        for found, state in zip((old, new), closed, strict=True)
    )
    changes = describe_differences(before, after)
    return {"as_of": {"from": old.describe(), "to": new.describe()}, "changes": changes}


def render_views(state: State | None, closed: State | None, now: int) -> Views:
    """The JSON of an object at `now` (unix seconds), as a caller sees it to whom `closed` is shown: the same
    version without personal data; None for a caller who sees all."""
    if state is None:
        return NOTHING
    whole = _render_unmarked(state, now)
    visible = whole if closed is None else _render_unmarked(closed, now)
    return Views(whole, visible, bool(state.redaction))


def _render_unmarked(state: State, now: int) -> Json:
    """The object without the member that says that it is redacted now: no change of it has made it so."""
    rendered = render_whole_object(state, now)
    rendered.pop("redaction", None)
    return rendered


def make_unreadable_error(object_id: str, error: UnreadableRecord) -> InternalError:
    """The answer about an object with a record that cannot be read; logs which record."""
    log.error("record_unreadable", **error.to_log())
    return InternalError(f"The object '{object_id}' cannot be read: {error}")


def make_call(auditor: Auditor, object_id: str) -> Call:
    """The auditor's request as a call about the object."""
    return Call(Cause(auditor.account, auditor.livemode, auditor.actor, None, None), object_id, {})


async def _find(
    context: QueryContext,
    auditor: Auditor,
    object_id: str,
    query: MomentQuery,
    *,
    opened: bool,
    param: str = "at",
) -> _Found:
    """The object as of a moment, with personal data if `opened`. Raises UnknownObject for an object of
    another account or mode, InvalidParameter for a position in the future, InternalError."""
    if "\0" in object_id or not object_id.isprintable():
        raise UnknownObject(NOUN, object_id)
    try:
        past = await context.store.past_streams.read(PastRead(object_id, opened, query.position, query.until))
    except UnreadableRecord as error:
        if error.owner != (auditor.account, auditor.livemode):
            raise UnknownObject(NOUN, object_id) from None
        raise make_unreadable_error(object_id, error) from error
    query.check(past.head, param=param)
    moment = Moment(past.position, query.at if query.position is None else past.recorded_at)
    call = make_call(auditor, object_id)
    if past.state is not None and not is_visible(past.state, call):
        raise UnknownObject(NOUN, object_id, hint=mode_hint(past.state, State, call))
    return _Found(moment, past.state)


async def _make_missing_error(
    context: QueryContext, auditor: Auditor, object_id: str, moment: Moment
) -> UnknownObject:
    """The error for an object that did not exist at the moment: it says when the object was created, if the
    auditor may know it."""
    parameters = {"id": object_id, "account": auditor.account, "livemode": auditor.livemode}

    async def fetch(conn: Conn) -> Any:
        return await fetch_one(conn, _CREATION, parameters)

    row = await context.reads.run_idempotent(fetch)
    if row is None:
        return UnknownObject(NOUN, object_id)
    hint = f" at position {moment.position}; it was created at {format_time(row[1])}, position:{row[0]}"
    return UnknownObject(NOUN, object_id, hint=hint)


def _parse_expand(paths: Sequence[str], state: State) -> ExpandTree:
    """What to expand. Raises InvalidParameter for what an object of this type does not have."""
    object_type = state.type if isinstance(state, Resource) else AGGREGATES_BY_STATE[type(state)].object_type
    if paths and object_type not in EXPANDABLE_FIELDS:
        raise InvalidParameter(f"This property cannot be expanded ({paths[0]}).")
    return parse_expand(paths, object_type, in_list=False) if paths and object_type else {}


async def expand_then(
    context: QueryContext,
    auditor: Auditor,
    state: State,
    rendered: Json,
    moment: Moment,
    tree: ExpandTree,
    base_url: str,
    fetch: Fetch | None = None,
) -> None:
    """Expand members of the rendered object as of the moment. The URL of a file link opens a file for
    everybody, so it is personal data as the file is. `fetch`: that of a page, which its objects share."""
    if tree or isinstance(state, File | FileLink):
        fetch = fetch or share_past_reads(context, auditor, moment)
        await expand(state, rendered, tree, int(moment.time), fetch)
        add_urls(rendered, base_url, context.link_urls.derive_digits if auditor.shows_personal_data else None)


def share_past_reads(context: QueryContext, auditor: Auditor, moment: Moment) -> Fetch:
    """Reads objects as of the moment for one answer, as the auditor may see them. None also for one that
    cannot be read, which is logged."""

    async def fetch(stream: str) -> State | None:
        read = PastRead(stream, auditor.shows_personal_data, moment.position)
        return (await context.store.past_streams.read(read)).state

    return share_reads(lambda stream: get_readable(fetch, stream))

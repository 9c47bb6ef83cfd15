"""One recorded event, whole: what the log says about it, and what it holds."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger.audit.auditor import Auditor
from ledger.audit.search.entries import fetch_entries, get_closed_codec
from ledger.errors import InvalidParameter, UnknownObject, UnreadableRecord
from ledger.postgres.connections import Conn, fetch_one
from ledger.queries.context import QueryContext
from ledger.store.codec import Codec
from ledger.tlog.encoding import encode_base64
from ledger.tree.records import Record, derive_leaf_hash
from ledger.wire.json_values import Json

NOUN = "recorded event"

_SELECT_HEAD = "SELECT position FROM ledger.head"
# The columns in the order of `Record`.
_NO_FIELDS = frozenset({"originator_id", "originator_version", "redaction"})
_SELECT_RECORD = """
SELECT notification_id, originator_id, originator_version, topic, account, livemode, actor, request_id,
       idempotency_key, causation, customer, charge, payment_intent,
       (extract(epoch FROM recorded_at) * 1000000)::bigint, state
FROM ledger.events
WHERE notification_id = %(position)s AND account = %(account)s AND livemode = %(livemode)s
"""


async def read_recorded_event(context: QueryContext, auditor: Auditor, position: int) -> Json:
    """The event at `position`: its entry, and

    class_version  the version of its class as it was stored; null when that cannot be told
    data           its fields, of the present version; null when it cannot be read
    withheld       the names of the fields with personal data, if some is stored that this auditor may not see
    unreadable     why it cannot be read: a code; otherwise null
    leaf_hash      base64: of its leaf, number `position - 1`, in the Merkle tree

    Raises InvalidParameter for a position after the last one, UnknownObject for an event of another account
    or mode.
    """

    async def read(conn: Conn) -> Json:
        event = await load_recorded_event(conn, context.store.codec, auditor, position)
        if event is None:
            head = await fetch_one(conn, _SELECT_HEAD)
            assert head is not None
            if position > head[0]:
                raise InvalidParameter(
                    f"Position {position} is in the future: the last one is {head[0]}.", param="position"
                )
            raise UnknownObject(NOUN, str(position), param="position")
        return event

    return await context.reads.run_idempotent(read)


async def load_recorded_event(conn: Conn, codec: Codec, auditor: Auditor, position: int) -> Json | None:
    """The event as from `read_recorded_event`; None where the account and mode have none. Raises
    psycopg.Error."""
    parameters = {"position": position, "account": auditor.account, "livemode": auditor.livemode}
    cur = conn.cursor(binary=True)
    row = await (await cur.execute(_SELECT_RECORD, parameters)).fetchone()
    if row is None:
        return None
    (entry,) = await fetch_entries(conn, codec, [position])
    record = Record(*row)
    if auditor.shows_personal_data:
        codec = await codec.prepare(conn, [(record.stream, record.version, record.topic, record.state)])
    return {
        **entry.to_json(),
        "account": record.account,
        "livemode": record.livemode,
        **_render_content(codec, record, opened=auditor.shows_personal_data),
        "leaf_hash": encode_base64(derive_leaf_hash(record)),
    }


def _render_content(codec: Codec, record: Record, *, opened: bool) -> Json:
    if not opened:
        codec = get_closed_codec(codec)
    data: Json | None = None
    withheld: list[str] = []
    unreadable: str | None = None
    redaction: str | None = None
    stored = _parse_stored(record.state)
    try:
        event = codec.decode_event(record.stream, record.version, record.topic, record.state)
    except UnreadableRecord as error:
        unreadable = error.reason.value
    else:
        redaction = event.redaction
        data = {name: value for name, value in vars(event).items() if name not in _NO_FIELDS}
        if not opened and "sealed" in stored:
            withheld = sorted(event.PERSONAL)
    return {
        "class_version": stored.get("class_version", 1) if stored else None,
        "data": data,
        "withheld": withheld,
        "redaction": redaction,
        "unreadable": unreadable,
    }


def _parse_stored(state: bytes) -> Json:
    """The stored members; none of bytes that are no JSON object."""
    try:
        return msgspec.json.decode(state, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}

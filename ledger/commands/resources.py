"""Other services' resources, published to the Event feed: told with PUT and DELETE, answered with the Event.

An Event's id and time follow from the log, so they are known once the append has committed. A command says
which event of the log it made, or found made already; that is what is kept for its idempotency key, and
`Publications` shows it as `GET /v1/events/{id}` does: the same log gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from psycopg_pool import PoolTimeout

from ledger.call import Call
from ledger.commands.execution import Decision, DecisionContext
from ledger.commands.external_facts import id_taken_error
from ledger.domain import resource
from ledger.domain.event import DomainEvent
from ledger.domain.resource import Resource, ResourcePublished
from ledger.errors import InvalidParameter, Unavailable, UnknownObject
from ledger.postgres.connections import Pool, first_line
from ledger.store.codec import Codec
from ledger.store.journal import fold_changes
from ledger.store.log import Recorded, read_event_and_previous
from ledger.wire import events as public_events
from ledger.wire.aggregates import LEDGER_OBJECT_TYPES
from ledger.wire.event_types import check_event_type
from ledger.wire.public_events import derive_event_id, derive_public_events, is_ledger_event_type
from ledger.wire.versions import LATEST_VERSION

Pool = Pool


class EventReference(msgspec.Struct, frozen=True):
    """Which event of the log an Event shows. `account` is the one a platform acts on, None for its own: it
    is told to the platform (contract §4.1)."""

    stream: str
    version: int
    account: str | None


async def publish(call: Call, context: DecisionContext, now: int) -> Decision:
    """`PUT /internal/v1/resources/{type}/{id}`. What tells nothing new makes no Event (contract §4.2): the
    one that told of it is the answer."""
    params = call.parameters
    _check_event_type(params["event_type"])
    state = await _find_existing(call, context)
    if params["type"] in LEDGER_OBJECT_TYPES:
        text = f"Invalid type: objects of type {params['type']} are managed by this ledger."
        raise InvalidParameter(text, param="type")
    events = resource.publish(
        state,
        resource_id=call.target,
        account=call.account,
        livemode=call.livemode,
        type=params["type"],
        event_type=params["event_type"],
        object=params["object"],
        now=now,
    )
    return _apply_and_reference(call, state, events)


async def unpublish(call: Call, context: DecisionContext, now: int) -> Decision:
    """`DELETE /internal/v1/resources/{type}/{id}`. Raises UnknownObject for what is not there (any more)."""
    params = call.parameters
    event_type = params.get("event_type") or f"{params['type']}{resource.DELETED_SUFFIX}"
    _check_event_type(event_type)
    state = await _find_existing(call, context)
    if state is None or state.deleted:
        raise UnknownObject(params["type"], call.target)
    return _apply_and_reference(call, state, resource.delete(state, event_type, now=now))


class Publications:
    """Shows the Events that were made."""

    def __init__(self, pool: Pool, codec: Codec) -> None:
        self._pool = pool
        self._codec = codec

    async def fetch_event(self, body: str) -> dict[str, Any]:
        """The Event of a command's answer. Raises Unavailable."""
        reference = msgspec.json.decode(body, type=EventReference)
        try:
            async with self._pool.connection() as conn:
                recorded = await read_event_and_previous(
                    conn, self._codec, reference.stream, reference.version
                )
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise Unavailable(first_line(error)) from error
        return _render_event(recorded, reference.account)


def _render_event(recorded: Sequence[Recorded], account: str | None) -> dict[str, Any]:
    *earlier, last = recorded
    before = None
    for item in earlier:  # after a deletion a resource begins anew
        if isinstance(item.event, ResourcePublished):
            before = resource.evolve(None, item.event)
    after = resource.evolve(before, last.event)
    ((name, rendered, previous),) = derive_public_events(before, last.event, after)
    return public_events.render_event(
        event_id=derive_event_id(last.event, 0, last.recorded_at),
        event_type=name,
        created=int(last.recorded_at),
        livemode=last.livemode,
        api_version=LATEST_VERSION,
        data=public_events.render_event_data(rendered, previous),
        request_id=last.request_id,
        idempotency_key=last.idempotency_key,
        pending_webhooks=0,  # who is owed it is found out afterwards; an answer stays the same
        account=account,
    )


def _check_event_type(event_type: str) -> None:
    check_event_type(event_type, "event_type")
    if is_ledger_event_type(event_type):
        text = f"Invalid event_type: {event_type} is made by this ledger itself, of what it keeps."
        raise InvalidParameter(text, param="event_type")


async def _find_existing(call: Call, context: DecisionContext) -> Resource | None:
    """The resource as it was published last. Raises InvalidState when the id is another's."""
    state = await context.get(call.target)
    if state is None:
        return None
    if not isinstance(state, Resource) or (state.account, state.livemode, state.type) != (
        call.account,
        call.livemode,
        call.parameters["type"],
    ):
        raise id_taken_error(state.id)
    return state


def _apply_and_reference(call: Call, state: Resource | None, events: Sequence[DomainEvent]) -> Decision:
    """The last of `events`, or else of those that made `state`, as the answer."""
    changes = fold_changes(events, state)
    after = changes[-1].state if changes else state
    assert after is not None, "the first publication of a resource makes an event"
    account = call.account if call.as_platform else None
    return Decision(changes, msgspec.structs.asdict(EventReference(after.id, after.version, account)))

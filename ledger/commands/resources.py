"""Commands that publish other services' resources as Events.

An Event's id and time are derived from the log, so they are known only after the append has committed. A
command answers with a reference to the recorded event, and that is what an idempotency key stores.
`Publications` renders the Event from the reference, as `GET /v1/events/{id}` does (README, invariant 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import Decision
from ledger.commands.external_facts import id_taken_error
from ledger.domain import resource
from ledger.domain.event import DomainEvent
from ledger.domain.resource import Resource, ResourcePublished
from ledger.errors import InvalidParameter, UnknownObject
from ledger.postgres.connections import Pool
from ledger.store.codec import Codec
from ledger.store.journal import fold_changes
from ledger.store.log import Recorded, read_event_and_previous
from ledger.wire import events as public_events
from ledger.wire.aggregates import LEDGER_OBJECT_TYPES
from ledger.wire.event_types import check_event_type
from ledger.wire.public_events import derive_event_id, derive_public_events, is_ledger_event_type
from ledger.wire.versions import LATEST_VERSION


class EventReference(msgspec.Struct, frozen=True):
    """The recorded event that an Event is derived from. `account` is the connected account that a platform
    acts on, None for the platform's own: only then does the Event show it (contract §4.1)."""

    stream: str
    version: int
    account: str | None


async def publish(call: Call, context: DecisionContext, now: int) -> Decision:
    """`PUT /internal/v1/resources/{type}/{id}`. An unchanged resource makes no Event (contract §4.2); the
    answer is the Event that published it."""
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
    """`DELETE /internal/v1/resources/{type}/{id}`. Raises UnknownObject for a resource that was never
    published or is deleted already."""
    params = call.parameters
    event_type = params.get("event_type") or f"{params['type']}{resource.DELETED_SUFFIX}"
    _check_event_type(event_type)
    state = await _find_existing(call, context)
    if state is None or state.deleted:
        raise UnknownObject(params["type"], call.target)
    return _apply_and_reference(call, state, resource.delete(state, event_type, now=now))


class Publications:
    """Renders the Events that commands have published."""

    def __init__(self, pool: Pool, codec: Codec) -> None:
        self._pool = pool
        self._codec = codec

    async def fetch_event(self, body: str) -> dict[str, Any]:
        """The Event that `body`, the JSON answer of a command, refers to. Raises Unavailable."""
        reference = msgspec.json.decode(body, type=EventReference)
        recorded = await self._pool.run_idempotent(
            lambda conn: read_event_and_previous(conn, self._codec, reference.stream, reference.version)
        )
        return _render_event(recorded, reference.account)


def _render_event(recorded: Sequence[Recorded], account: str | None) -> dict[str, Any]:
    *earlier, last = recorded
    before = None
    for item in earlier:  # a resource that was deleted starts over
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
        pending_webhooks=0,  # no delivery exists before the fan-out, and a replay must not differ
        account=account,
    )


def _check_event_type(event_type: str) -> None:
    check_event_type(event_type, "event_type")
    if is_ledger_event_type(event_type):
        text = f"Invalid event_type: {event_type} is emitted only by this ledger, for its own objects."
        raise InvalidParameter(text, param="event_type")


async def _find_existing(call: Call, context: DecisionContext) -> Resource | None:
    """The resource as it was last published, None if it never was. Raises ContentConflict if the id belongs
    to another object."""
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
    """Answer with a reference to the last of `events`, or to the last event of `state` if there are none."""
    changes = fold_changes(events, state)
    after = changes[-1].state if changes else state
    assert after is not None, "the first publication of a resource makes an event"
    reference = EventReference(after.id, after.version, call.connected_account)
    return Decision(changes, msgspec.structs.asdict(reference))

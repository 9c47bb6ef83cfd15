"""What a redaction job reaches, and what stands in its way (contract §2.15).

Everything that belongs to a root is found along the indexes of the log, so nothing is missing that was
recorded by then; it is folded without personal data, which needs no key. Only evidence is opened, because it
names files. The walk goes in pages: its memory holds the ids of what it has found, and the aggregates of one
page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from psycopg.rows import TupleRow

from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.legal_hold import find_hold_id
from ledger.domain.payment_intent import CANCELED, SUCCEEDED, PaymentIntent
from ledger.domain.redaction_job import (
    FIX,
    LOCKED_BY_OTHER_JOB,
    READY,
    REDACTING,
    VALIDATING,
    RedactionJob,
)
from ledger.domain.redaction_job_decisions import (
    ERRORS_MAX,
    ROOT_TYPES,
    Obstacle,
    Scope,
    find_hold_obstacle,
    is_lock,
)
from ledger.domain.redaction_roots import (
    NAMING_TOPICS,
    find_owner,
    get_root_type,
    list_named,
    list_subjects,
)
from ledger.domain.resource import Resource
from ledger.errors import UnreadableRecord
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.queries.context import QueryContext
from ledger.queries.list_query import in_live_generation
from ledger.store.log import read_states_at
from ledger.store.store import Store

POSITIONS_PAGE_MAX = 5_000
STREAMS_PAGE_MAX = 200
REACHED_MAX = 1_000_000
"""So many objects a job may reach."""
CANCELABLE_MAX = 500
"""So many payment intents a job cancels when it runs: they are in one append."""
JOBS_COMPARED_MAX = 1_000
CLOSED_DISPUTES = frozenset({"won", "lost", "warning_closed", "prevented"})

_HEAD = "SELECT position FROM ledger.head"
_PAGES = {
    member: f"""
SELECT notification_id, originator_id, split_part(topic, '.', 1) FROM ledger.events
WHERE {member} = %(id)s AND account = %(account)s AND livemode = %(livemode)s
AND notification_id > %(after)s AND notification_id <= %(upto)s
ORDER BY notification_id LIMIT %(limit)s"""  # noqa: S608 (constants)
    for member in ("customer", "payment_intent", "charge")
}
_OTHER_JOBS = f"""
SELECT id FROM projections.redaction_jobs WHERE {in_live_generation("redaction_jobs")}
AND account = %(account)s AND livemode = %(livemode)s AND status = ANY (%(statuses)s) AND id <> %(job)s
ORDER BY created LIMIT %(limit)s
"""  # noqa: S608 (constants)
_NAMED_BY_OTHERS = """
SELECT true FROM ledger.events WHERE customer = %(id)s AND notification_id > %(after)s
AND notification_id <= %(upto)s AND (account, livemode) <> (%(account)s, %(livemode)s) LIMIT 1
"""
# What events of these streams name, and what of that there is.
_NAMING = """
SELECT e.originator_id, e.originator_version, e.topic, e.state
FROM json_array_elements_text(%(streams)s::json) AS wanted(s)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.events WHERE originator_id = wanted.s AND notification_id + 0 <= %(upto)s OFFSET 0) e
WHERE e.topic = ANY (%(topics)s::text[])
"""
_NAMED = """
SELECT e.originator_id, split_part(e.topic, '.', 1)
FROM json_array_elements_text(%(streams)s::json) AS wanted(s)
CROSS JOIN LATERAL (
    SELECT * FROM ledger.events WHERE originator_id = wanted.s AND originator_version = 1 OFFSET 0) e
WHERE e.account = %(account)s AND e.livemode = %(livemode)s
"""
# What names one of these streams as its charge or payment intent, whether or not it names the customer, too.
_HANGING = """
SELECT DISTINCT e.originator_id, split_part(e.topic, '.', 1)
FROM json_array_elements_text(%(streams)s::json) AS wanted(s)
CROSS JOIN LATERAL (
    SELECT originator_id, topic FROM ledger.events
    WHERE charge = wanted.s AND account = %(account)s AND livemode = %(livemode)s
    AND notification_id + 0 <= %(upto)s
    UNION ALL SELECT originator_id, topic FROM ledger.events
    WHERE payment_intent = wanted.s AND account = %(account)s AND livemode = %(livemode)s
    AND notification_id + 0 <= %(upto)s
    OFFSET 0) e
"""
_JUDGED = {"charge", "dispute", "payment_intent"}
"""What may stand in the way, by the first part of its events' topics."""
_HELD = {"charge", "payment_intent", "resource"}
"""What may have been held before it belonged to a root."""
_LOOKED_AT = _JUDGED | _HELD
_encode_json = msgspec.json.Encoder().encode


async def survey_redaction(
    context: QueryContext, job: RedactionJob, roots: Sequence[State], after: int
) -> Scope:
    """As `survey`, for a command. Raises Unavailable."""
    return await context.pool.run_idempotent(
        lambda conn: survey(conn, context.store, job, roots, after=after)
    )


async def survey(
    conn: Conn, store: Store, job: RedactionJob, roots: Sequence[State], *, after: int = 0
) -> Scope:
    """What the job reaches through its roots. `after`: looks only at what changed after this position, as
    when the job was validated up to there. Raises psycopg.Error, Unavailable."""
    row = await fetch_one(conn, _HEAD)
    assert row is not None, "a migrated database has a head"
    found = _Survey(conn, store, job, after, row[0])
    subjects = set(list_subjects(roots))
    await found.check_roots(roots)
    for root in roots:
        if root.id in subjects:
            await found.check_other_accounts(root)
            await found.walk(root)
    await found.check_other_jobs()
    return found.to_scope()


@dataclass(slots=True)
class _Survey:
    """One walk, over the positions from after `after` up to `upto`."""

    conn: Conn
    store: Store
    job: RedactionJob
    after: int
    upto: int
    obstacles: list[Obstacle] = field(default_factory=list)
    cancelable: list[str] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    _seen: set[str] = field(default_factory=set)
    _found: list[tuple[str, str]] = field(default_factory=list)
    """What is still to be looked at, with the first part of its topics."""

    async def check_roots(self, roots: Sequence[State]) -> None:
        """Roots that belong to an object which is none of them cannot be erased without it."""
        ids = {state.id for state in roots}
        for state in roots:
            object_type, owner = get_root_type(state) or "", find_owner(state)
            if owner is not None and owner.id not in ids:
                text = (
                    f"This {object_type.replace('_', ' ')} belongs to the {owner.noun} {owner.id} and cannot "
                    f"be redacted without it: redact the {owner.noun} instead."
                )
                if await self.store.streams.read(owner.id) is None:  # a resource may name anybody
                    text += f" This service does not have the {owner.noun}: record it first, under its id."
                self._add("invalid_cascading_source", text, state.id, object_type)
            self._reach(state.id, object_type)

    async def check_other_accounts(self, root: State) -> None:
        """What another account or mode says of a customer is sealed under the same key, whoever has the
        object of that id. Only an operator, who is of all accounts, may erase that as well."""
        if self.job.requested_by is not None:
            return
        if await fetch_one(self.conn, _NAMED_BY_OTHERS, self._bind(id=root.id, after=self.after)) is not None:
            text = (
                "Objects of another account or mode name this object as their customer and would be redacted "
                "with it: an operator of the service must redact it."
            )
            self._add("invalid_state", text, root.id, get_root_type(root) or "")

    async def walk(self, root: State) -> None:
        """Find what belongs to the root, and judge it."""
        if isinstance(root, PaymentIntent | Charge):
            self._found.append((root.id, get_root_type(root) or ""))
        member = _find_member(root)
        if member is not None:
            async for _, stream, aggregate in self._read_pages(member, root.id):
                if stream in self._seen:
                    continue
                self._reach(stream, aggregate)
                if len(self._seen) > REACHED_MAX:
                    self._add("too_many_objects", f"The job reaches more than {REACHED_MAX:,} objects.")
                    return
                if aggregate in _LOOKED_AT:
                    self._found.append((stream, aggregate))
                if len(self._found) >= STREAMS_PAGE_MAX:
                    await self._look_at_found()
        await self._look_at_found()

    async def check_other_jobs(self) -> None:
        """Roots that another job could erase now keep this one from running."""
        own = set(self.job.object_ids)
        statuses = [VALIDATING, READY, REDACTING]
        parameters = self._bind(job=self.job.id, statuses=statuses, limit=JOBS_COMPARED_MAX)
        for (job_id,) in await fetch_all(self.conn, _OTHER_JOBS, parameters):
            other = await self.store.streams.read(job_id)  # the row may be behind
            if not isinstance(other, RedactionJob) or not is_lock(other, self.job):
                continue
            for shared in sorted(own.intersection(other.object_ids)):
                self._add(
                    LOCKED_BY_OTHER_JOB,
                    f"This object is in the redaction job {other.id}, which has a status of {other.status}.",
                    shared,
                    _name_type(self.job, shared),
                )

    def to_scope(self) -> Scope:
        """The result."""
        if len(self.cancelable) > CANCELABLE_MAX:
            self._add(
                "too_many_objects",
                f"More than {CANCELABLE_MAX} payment intents would have to be canceled: cancel them first.",
            )
        return Scope(self.upto, dict(self.reached), self.obstacles[:ERRORS_MAX], self.cancelable)

    async def _read_pages(self, member: str, root_id: str) -> AsyncIterator[TupleRow]:
        after = self.after
        while True:
            parameters = self._bind(id=root_id, after=after, limit=POSITIONS_PAGE_MAX)
            rows = await fetch_all(self.conn, _PAGES[member], parameters)
            for row in rows:
                yield row
            if len(rows) < POSITIONS_PAGE_MAX:
                return
            after = rows[-1][0]

    async def _look_at_found(self) -> None:
        """Look at the objects that were found last, and at what hangs on them alone: a charge or payment
        intent may have got its customer later than its disputes were opened, or than it was held."""
        found, self._found = self._found, []
        while found:
            await self._check_holds([stream for stream, family in found if family in _HELD])
            await self._judge([stream for stream, family in found if family in _JUDGED])
            found = await self._find_hanging([stream for stream, family in found if family in _HELD])

    async def _find_hanging(self, streams: Sequence[str]) -> list[tuple[str, str]]:
        """Reach what names these objects as its charge or payment intent. Returns what of that
        is new and to be looked at."""
        parameters = self._bind(streams=_encode_json(streams).decode())
        rows = await fetch_all(self.conn, _HANGING, parameters)
        new = [(stream, family) for stream, family in rows if stream not in self._seen]
        for stream, family in new:
            self._reach(stream, family)
        return [(stream, family) for stream, family in new if family in _LOOKED_AT]

    async def _judge(self, streams: Sequence[str]) -> None:
        codec = self.store.codec.without_personal_data()
        states, unreadable = await read_states_at(self.conn, codec, streams, self.upto)
        try:
            await self._reach_files([state.id for state in states.values() if isinstance(state, Dispute)])
        except UnreadableRecord as error:
            unreadable[error.stream] = error
        for stream in unreadable:
            self._add("invalid_state", "This object has a record that cannot be read.", stream, "unknown")
        for state in states.values():
            if isinstance(state, Charge | Dispute) and self.job.passes_over(state.created):
                continue
            if isinstance(state, Dispute) and state.status not in CLOSED_DISPUTES:
                text = f"This dispute has a status of {state.status}: it must be won or lost first."
                self._add("invalid_state", text, state.id, "dispute")
            elif isinstance(state, PaymentIntent) and state.status not in (SUCCEEDED, CANCELED):
                self._judge_intent(state)
            elif isinstance(state, Charge) and state.payment_intent is None and _awaits_capture(state):
                text = (
                    "This charge awaits capture: capture it first, or wait until its authorization expires."
                )
                self._add("invalid_state", text, state.id, "charge")

    async def _check_holds(self, streams: Sequence[str]) -> None:
        """The holds of these objects, but of the roots: those the decision looks at itself."""
        held = [find_hold_id(stream) for stream in streams if stream not in self.job.object_ids]
        for stream, _ in await fetch_all(self.conn, _NAMED, self._bind(streams=_encode_json(held).decode())):
            obstacle = find_hold_obstacle(self.job, await self.store.streams.read(stream))
            if obstacle is not None and len(self.obstacles) < ERRORS_MAX:
                self.obstacles.append(obstacle)

    async def _reach_files(self, streams: Sequence[str]) -> None:
        """The files in the evidence of disputes, and the links of these files."""
        while streams:
            parameters = self._bind(topics=list(NAMING_TOPICS), streams=_encode_json(streams).decode())
            cur = await self.conn.cursor(binary=True).execute(_NAMING.encode(), parameters)
            rows = await cur.fetchall()
            codec = await self.store.codec.prepare(self.conn, rows)
            named = {each for row in rows for each in list_named(codec.decode_event(*row))} - self._seen
            parameters["streams"] = _encode_json(list(named)).decode()
            found = await fetch_all(self.conn, _NAMED, parameters)
            for stream, family in found:
                self._reach(stream, family)
            streams = [stream for stream, _ in found]

    def _bind(self, **more: Any) -> dict[str, Any]:
        return {
            "account": self.job.account, "livemode": self.job.livemode, "upto": self.upto, **more,
        }  # fmt: skip

    def _judge_intent(self, state: PaymentIntent) -> None:
        if self.job.validation_behavior == FIX:
            self.cancelable.append(state.id)
            return
        text = f"This payment intent has a status of {state.status}: it must have succeeded or be canceled."
        self._add("invalid_state", text, state.id, "payment_intent")

    def _reach(self, stream: str, object_type: str) -> None:
        if stream not in self._seen:
            self._seen.add(stream)
            self.reached[object_type] += 1

    def _add(self, code: str, message: str, object_id: str = "", object_type: str = "") -> None:
        if len(self.obstacles) < ERRORS_MAX:
            self.obstacles.append(Obstacle(code, message, object_id, object_type))


def _find_member(root: State) -> str | None:
    """The member by which other objects name a root of this kind; None: none does."""
    match root:
        case Customer():
            return "customer"
        case Charge():
            return "charge"
        case PaymentIntent():
            return "payment_intent"
        case Resource(type="payment_intent"):
            return "payment_intent"
    return None


def _awaits_capture(state: Charge) -> bool:
    return state.status == "succeeded" and not (state.captured or state.expired or state.released is True)


def _name_type(job: RedactionJob, object_id: str) -> str:
    return next(ROOT_TYPES[name] for name, ids in job.objects.items() if object_id in ids)

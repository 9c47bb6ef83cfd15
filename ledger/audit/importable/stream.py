"""The objects of an account as an import takes them, read from the log page by page in memory that does not
grow. The log up to a position never changes: so all pages together are of that position, without a snapshot.

Customers and files come first, because what was created before them may name them now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import msgspec

from ledger.audit.auditor import Auditor
from ledger.audit.importable import lines
from ledger.audit.importable.disputes import LinesByVersion, make_dispute_lines
from ledger.audit.importable.lines import Line
from ledger.commands.imports.lines import FILE_LINE_BYTES_MAX
from ledger.domain import (
    charge,
    customer,
    customer_session,
    dispute,
    file,
    file_link,
    imported_event,
    legal_hold,
    payment_intent,
    redaction_job,
    refund,
    resource,
    webhook_endpoint,
)
from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.errors import ContentsErased
from ledger.files.storage import FileStorage
from ledger.postgres.connections import Conn, fetch_one
from ledger.queries.context import QueryContext
from ledger.store.codec import Codec, UnreadableEvent
from ledger.store.log import Recorded, read_log, read_states_at, read_whole_streams
from ledger.wire.aggregates import EVENT_CLASSES

PAGE_POSITIONS = 1000
_FIRST = (customer.CustomerCreated, file.FileUploaded)
_SECOND = (
    customer.CustomerDeleted,
    charge.ChargeSucceeded,
    charge.ChargeFailed,
    refund.RefundCreated,
    imported_event.EventImported,
    resource.ResourcePublished,
    webhook_endpoint.WebhookEndpointCreated,
    webhook_endpoint.EventDestinationCreated,
    payment_intent.PaymentIntentCreated,
    customer_session.CustomerSessionCreated,
    file_link.FileLinkCreated,
    *dispute.EVENTS,
)
_FOLDED = (
    customer.CustomerCreated,
    file.FileUploaded,
    charge.ChargeSucceeded,
    charge.ChargeFailed,
    refund.RefundCreated,
    resource.ResourcePublished,
    webhook_endpoint.WebhookEndpointCreated,
    webhook_endpoint.EventDestinationCreated,
)
_UNSUPPORTED: dict[type[DomainEvent], str] = {
    payment_intent.PaymentIntentCreated: "payment intents",
    customer_session.CustomerSessionCreated: "customer sessions",
    file_link.FileLinkCreated: "file links",
    redaction_job.RedactionJobCreated: "redaction jobs",
    legal_hold.LegalHoldPlaced: "legal holds",
}
# What an import refuses without its personal data.
_SEALED_WHOLE: dict[type[DomainEvent], str] = {
    file.FileUploaded: "files",
    imported_event.EventImported: "imported Events",
    resource.ResourcePublished: "published resources",
    webhook_endpoint.WebhookEndpointCreated: "webhook endpoints",
    webhook_endpoint.EventDestinationCreated: "event destinations",
}
_LINE_OVERHEAD_BYTES = 4096
_HEAD = "SELECT position FROM ledger.head"
_ENCODER = msgspec.json.Encoder()

OnPage = Callable[[float], None]
"""Is called with the share of the work that is done, 0 to 1."""


@dataclass(slots=True)
class Summary:
    """What an export has: the position that it is of, its lines by `op`, and how many objects of which kind
    it leaves out."""

    position: int
    lines: Counter[str] = field(default_factory=Counter)
    unsupported: Counter[str] = field(default_factory=Counter)
    sealed: Counter[str] = field(default_factory=Counter)


async def begin_export(context: QueryContext) -> Summary:
    """An export of the log as it is now. Raises Unavailable."""
    row = await context.reads.run_idempotent(lambda conn: fetch_one(conn, _HEAD))
    assert row is not None, "a migrated database has a head"
    return Summary(row[0])


async def stream_objects(
    context: QueryContext, auditor: Auditor, summary: Summary, *, on_page: OnPage
) -> AsyncIterator[bytes]:
    """The lines of the auditor's account, NDJSON; `summary` counts them meanwhile.

    Raises Unavailable, and UnreadableRecord for a record that cannot be read.
    """
    codec = context.store.codec
    reader = _Reader(
        context,
        codec if auditor.shows_personal_data else codec.without_personal_data(),
        auditor,
        summary,
        FileStorage(context.pool, context.store.codec.data_keys),
    )
    for index, classes in enumerate((_FIRST, _SECOND)):
        ignored = [each.TOPIC for each in EVENT_CLASSES if each not in classes]
        for after in range(0, summary.position, PAGE_POSITIONS):
            async for line in reader.read_page(after, ignored):
                summary.lines[line["op"]] += 1
                yield _ENCODER.encode(line) + b"\n"
            on_page((index + min(1.0, (after + PAGE_POSITIONS) / summary.position)) / 2)


@dataclass(frozen=True, slots=True)
class _Page:
    """Events of the account, and of their objects the states as of the export's position."""

    recorded: Sequence[Recorded]
    states: Mapping[str, State]
    disputes: Mapping[str, LinesByVersion]


@dataclass(frozen=True, slots=True)
class _Reader:
    context: QueryContext
    codec: Codec
    auditor: Auditor
    summary: Summary
    storage: FileStorage

    async def read_page(self, after: int, ignored_topics: Sequence[str]) -> AsyncIterator[Line]:
        """The lines that come from the events after a position."""

        async def read(conn: Conn) -> _Page:
            return await self._read(conn, after, ignored_topics)

        page = await self.context.reads.run_idempotent(read)
        for item in page.recorded:
            event = item.event
            if type(event) in _UNSUPPORTED:
                self.summary.unsupported[_UNSUPPORTED[type(event)]] += 1
            elif type(event) in _SEALED_WHOLE and not self.auditor.shows_personal_data:
                self.summary.sealed[_SEALED_WHOLE[type(event)]] += 1
            elif isinstance(event, file.FileUploaded):
                state = page.states[event.originator_id]
                assert isinstance(state, file.File)
                if state.redaction:
                    self.summary.unsupported["files that were erased"] += 1
                    continue
                async for line in self._read_file(state):
                    yield line
            else:
                for line in _make_lines(event, page):
                    yield line

    async def _read(self, conn: Conn, after: int, ignored_topics: Sequence[str]) -> _Page:
        limit = min(PAGE_POSITIONS, self.summary.position - after)
        found = await read_log(conn, self.codec, after, limit, ignored_topics=ignored_topics)
        owner = (self.auditor.account, self.auditor.livemode)
        recorded = [item for item in found if (item.account, item.livemode) == owner]
        _check_readable(recorded)
        upto = self.summary.position
        folded = {item.event.originator_id for item in recorded if isinstance(item.event, _FOLDED)}
        states, failures = await read_states_at(conn, self.codec, sorted(folded), upto)
        if failures:
            raise next(iter(failures.values()))
        disputes = {item.event.originator_id for item in recorded if isinstance(item.event, dispute.EVENTS)}
        histories = await read_whole_streams(conn, self.codec, sorted(disputes), upto=upto)
        _check_readable(histories)
        events = (item.event for item in histories)
        by_stream = groupby(events, key=lambda event: event.originator_id)
        return _Page(recorded, states, {stream: make_dispute_lines(group) for stream, group in by_stream})

    async def _read_file(self, state: file.File) -> AsyncIterator[Line]:
        if state.size * 4 // 3 + _LINE_OVERHEAD_BYTES > FILE_LINE_BYTES_MAX:
            self.summary.unsupported["files that are too large for a line"] += 1
            return
        try:
            content = b"".join([chunk async for chunk in await self.storage.read(state)])
        except ContentsErased:
            self.summary.unsupported["files whose contents were erased"] += 1
            return
        yield lines.make_file_line(state, content)


def _check_readable(recorded: Iterable[Recorded]) -> None:
    for item in recorded:
        if isinstance(item.event, UnreadableEvent):
            raise item.event.error


def _make_lines(event: DomainEvent, page: _Page) -> list[Line]:
    """The lines that an event stands for: the creation of an object for all of it but disputes."""
    if isinstance(event, dispute.EVENTS):
        return page.disputes[event.originator_id][event.originator_version]
    match event:
        case customer.CustomerDeleted():
            return [lines.make_deletion_line(event.originator_id)]
        case imported_event.EventImported():
            return [lines.make_event_line(event)]
    match lines.drop_placeholders(page.states[event.originator_id]):
        case customer.Customer() as state:
            return [lines.make_customer_line(state)]
        case charge.Charge() as state:
            return [lines.make_charge_line(state)]
        case refund.Refund() as state:
            return [lines.make_refund_line(state)]
        case webhook_endpoint.WebhookEndpoint() as state if not state.deleted:
            return [lines.make_endpoint_line(state)]
        case resource.Resource() as state if state.version == event.originator_version:
            return [lines.make_resource_line(state)]
    return []

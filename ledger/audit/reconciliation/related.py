"""The streams that those of a page name: the charges of its disputes, and all disputes of these charges.

They are read in two statements for a page, whatever number of objects it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from ledger.audit.reconciliation.model import ChargeModel, DisputeModel
from ledger.domain.charge import ChargeDisputed
from ledger.domain.dispute import DisputeOpened
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec, UnreadableEvent
from ledger.store.log import Recorded, read_whole_streams


class RelatedStreams:
    """The related streams of one page, up to position `upto`."""

    def __init__(self, conn: Conn, codec: Codec, upto: int) -> None:
        self._conn = conn
        self._codec = codec
        self._upto = upto
        self._streams: dict[str, list[Recorded]] = {}
        self._unreadable: set[str] = set()

    async def load(self, page: Sequence[Recorded]) -> None:
        """Read what the page names, instead of what the page before named."""
        self._streams, self._unreadable = {}, set()
        await self._read(_list_named(page))
        await self._read(_list_named(each for stream in self._streams.values() for each in stream))

    def can_read(self, *stream_ids: str) -> bool:
        """Whether each of the streams can be read. One that cannot be is reported when its page comes."""
        return self._unreadable.isdisjoint(stream_ids)

    def find_charge(self, charge_id: str, upto: int) -> ChargeModel | None:
        """The charge up to a position; None when it has no event by then."""
        model = ChargeModel(charge_id)
        stream = self._streams.get(charge_id, ())
        for recorded in stream:
            if recorded.position <= upto:
                list(model.apply(recorded.event))
        return model if stream else None

    def find_disputes(self, model: ChargeModel, upto: int) -> list[DisputeModel]:
        """The disputes of a charge up to a position."""
        models = []
        for dispute_id in model.disputes:
            other = DisputeModel(dispute_id)
            for recorded in self._streams.get(dispute_id, ()):
                if recorded.position <= upto:
                    list(other.apply(recorded.event))
            models.append(other)
        return models

    async def _read(self, stream_ids: Iterable[str]) -> None:
        missing = [each for each in dict.fromkeys(stream_ids) if each not in self._streams]
        if not missing:
            return
        recorded = await read_whole_streams(self._conn, self._codec, missing, upto=self._upto)
        for stream_id, group in groupby(recorded, key=lambda each: each.event.originator_id):
            stream = list(group)
            self._streams[stream_id] = stream
            if any(isinstance(each.event, UnreadableEvent) for each in stream):
                self._unreadable.add(stream_id)


def _list_named(recorded: Iterable[Recorded]) -> Iterable[str]:
    """The disputes that events of charges name, and the charges that disputes name."""
    for each in recorded:
        if isinstance(each.event, ChargeDisputed):
            yield each.event.dispute
        elif isinstance(each.event, DisputeOpened):
            yield each.event.charge

"""Until items of the feed are there."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ledger.store.log import Recorded


def render(recorded: Sequence[Recorded]) -> list[bytes]:
    return [
        msgspec.json.encode(
            {
                "position": r.position,
                "type": r.event.TOPIC,
                "object": r.event.originator_id,
                "version": r.event.originator_version,
                "account": r.account,
                "livemode": r.livemode,
                "recorded_at": r.recorded_at,
            }
        )
        for r in recorded
    ]

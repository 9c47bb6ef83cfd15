"""The progress of a reader, in both forms: everything up to `progress` that passes its filter has been sent,
and `head` is the last position that there is."""

from __future__ import annotations

import msgspec

_encode = msgspec.json.Encoder().encode


def encode_progress(progress: int, head: int) -> bytes:
    """As JSON."""
    return _encode({"progress": progress, "head": head})


def encode_progress_event(progress: int, head: int) -> bytes:
    """As a server-sent event, whose id is the position to resume after."""
    return b"event: progress\nid: %d\ndata: %b\n\n" % (progress, encode_progress(progress, head))

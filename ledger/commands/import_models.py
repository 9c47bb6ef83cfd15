"""The lines of an import that only an import has: Events, refunds and files that came about elsewhere.

Each is given its id by the caller and is told once, however often it is sent.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ledger.commands.models import (
    Body,
    EventType,
    Id,
    JsonObject,
    Line,
    Metadata,
    PositiveInteger,
    Seconds,
    StorableText,
)
from ledger.domain.file import GENERATED_PURPOSES, UPLOAD_PURPOSES
from ledger.domain.refund_decisions import REASONS

FILENAME_LENGTH_MAX = 255


def _check_filename(name: str) -> str:
    if not name.isprintable() or "/" in name or "\\" in name:
        raise ValueError("must be a name without folders that can be printed")
    return name


def _decode_base64(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("must be base64") from None


class EventLine(Body):
    """An Event as it was shown elsewhere, of any of the public types. It is in the feed from now on, with no
    request as its cause, in the order in which Events were told."""

    op: Literal["event"]
    id: Id
    type: EventType
    object: JsonObject
    previous_attributes: JsonObject | None = None
    account: Id | None = None


class RefundLine(Body):
    """A refund made elsewhere: the money goes back here as `POST /v1/refunds` would send it."""

    op: Literal["refund"]
    id: Id
    charge: Id
    amount: PositiveInteger | None = None
    created: Seconds | None = None
    metadata: Metadata | None = None
    reason: Literal[REASONS] | None = None  # type: ignore[valid-type]  # the domain's names, listed once


class FileLine(Body):
    """A file that lay elsewhere; `content` is base64."""

    op: Literal["file"]
    id: Id
    purpose: Literal[(*UPLOAD_PURPOSES, *GENERATED_PURPOSES)]  # type: ignore[valid-type]
    content: Annotated[bytes, BeforeValidator(_decode_base64)]
    created: Seconds | None = None
    filename: (
        Annotated[
            StorableText, Field(min_length=1, max_length=FILENAME_LENGTH_MAX), AfterValidator(_check_filename)
        ]
        | None
    ) = None


ImportLine = Line | EventLine | RefundLine | FileLine

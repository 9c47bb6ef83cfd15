"""What has to be known of a PDF: how many pages it has. The only module that knows the PDF library."""

from __future__ import annotations

import asyncio
from io import BytesIO

COUNT_SECONDS_MAX = 10.0

_semaphore = asyncio.Semaphore(1)
"""One document at a time: what is counted is held in memory whole, and takes the interpreter's lock."""


async def count_pages(document: bytes) -> int | None:
    """Pages of a PDF; None where they cannot be counted, or not within COUNT_SECONDS_MAX."""
    async with _semaphore:
        try:
            return await asyncio.wait_for(asyncio.to_thread(_count, document), COUNT_SECONDS_MAX)
        except TimeoutError:
            return None


def _count(document: bytes) -> int | None:
    from pypdf import PdfReader  # takes 30 ms, which most processes never need

    try:
        return len(PdfReader(BytesIO(document)).pages)
    except Exception:  # whatever a hostile document provokes in the library
        return None

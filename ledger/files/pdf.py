"""Counts the pages of a PDF. The only module that knows the PDF library."""

from __future__ import annotations

import asyncio
from io import BytesIO

COUNT_SECONDS_MAX = 10.0

_semaphore = asyncio.Semaphore(1)
"""One document at a time: it is in memory as a whole, and parsing holds the interpreter's lock."""


async def count_pages(document: bytes) -> int | None:
    """The number of pages; None if it cannot be determined, or not within COUNT_SECONDS_MAX."""
    async with _semaphore:
        try:
            return await asyncio.wait_for(asyncio.to_thread(_count, document), COUNT_SECONDS_MAX)
        except TimeoutError:
            return None


def _count(document: bytes) -> int | None:
    from pypdf import PdfReader  # takes 30 ms, which most processes never need

    try:
        return len(PdfReader(BytesIO(document)).pages)
    except Exception:  # a hostile document may provoke anything in the library
        return None

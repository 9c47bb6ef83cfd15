"""Finds a text in bytes, however it may have been stored: in another encoding, compressed, inside a page.

A text is looked for by its stem, random letters that all texts of one person begin with. That finds every
text of that person at once, and by chance nothing: 26 letters to the power of 14 against some gigabytes.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64encode
from binascii import a2b_base64, unhexlify
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import zstandard

import ledger.compression.documents

DEPTH_MAX = 3
CONTENT_BYTES_MAX = 16 * 1024 * 1024
_PIECE_BYTES = 4096
PGLZ_GROUP = 8
"""Postgres' own compression writes a control byte before each eight literals."""

_DICTIONARY = Path(ledger.compression.documents.__file__).with_name("dictionary_1.zstd").read_bytes()
_DECOMPRESSORS = tuple(
    zstandard.ZstdDecompressor(dict_data=dictionary)
    for dictionary in (zstandard.ZstdCompressionDict(_DICTIONARY), None)
)
_ZSTD = b"\x28\xb5\x2f\xfd"
_DEFLATE = (b"\x1f\x8b\x08", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_HEX = (b"28b52ffd", b"28B52FFD", b"1f8b08", b"1F8B08")
_HEX_RUN = re.compile(rb"[0-9a-fA-F]+")
_BASE64 = (b"KLUv/", b"H4sI")
"""How zstd and gzip begin in base64."""
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


@cache
def make_patterns(stem: str) -> dict[str, bytes]:
    """What to look for, by the name of the form."""
    plain = stem.encode()
    forms = {
        "plain": plain,
        "upper case": plain.upper(),
        "UTF-16": stem.encode("utf-16-le"),
        "UTF-16, big-endian": stem.encode("utf-16-be"),
        "hexadecimal": plain.hex().encode(),
        "hexadecimal, upper case": plain.hex().upper().encode(),
    }
    for shift in range(3):  # the parts of base64 that only the stem decides
        encoded = b64encode(bytes(shift) + plain)
        forms[f"base64, {shift} bytes in"] = encoded[-(-shift * 4 // 3) : (shift + len(plain)) * 4 // 3]
    for start in range(len(plain) - PGLZ_GROUP + 1):
        forms[f"compressed by Postgres, {start} letters in"] = plain[start : start + PGLZ_GROUP]
    return forms


def find_forms(content: bytes, stems: Iterable[str], *, depth: int = 0) -> set[tuple[str, str]]:
    """Which of the stems the content has, each with the form; what the content holds in compressed form is
    looked at too."""
    stems = tuple(stems)
    found = {
        (stem, form) for stem in stems for form, pattern in make_patterns(stem).items() if pattern in content
    }
    if depth < DEPTH_MAX:
        for container, inner in unpack(content):
            found |= {
                (stem, f"{container}: {form}") for stem, form in find_forms(inner, stems, depth=depth + 1)
            }
    return found


def unpack(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What the content holds in compressed form, with the name of the form."""
    view = memoryview(content)
    for start in _find_all(content, _ZSTD):
        for decompressor in _DECOMPRESSORS:
            try:
                yield "zstd", decompressor.stream_reader(view[start:]).read(CONTENT_BYTES_MAX)
            except zstandard.ZstdError:
                continue
            break
    for start in _find_all(content, *_DEFLATE):
        if inner := _inflate(view[start:]):
            yield "deflate", inner
    for start in _find_all(content, *_HEX):
        if run := _HEX_RUN.match(content, start):
            yield "hexadecimal", unhexlify(run[0][: len(run[0]) // 2 * 2])
    for start in _find_all(content, *_BASE64):
        if run := _BASE64_RUN.match(content, start):
            yield "base64", a2b_base64(run[0][: len(run[0]) // 4 * 4])


def _find_all(content: bytes, *patterns: bytes) -> Iterator[int]:
    for pattern in patterns:
        start = content.find(pattern)
        while start >= 0:
            yield start
            start = content.find(pattern, start + 1)


def _inflate(view: memoryview) -> bytes:
    """The content of a stream that begins here, as far as it can be read."""
    inflated, reader = b"", zlib.decompressobj(wbits=47)
    try:
        for start in range(0, min(len(view), CONTENT_BYTES_MAX), _PIECE_BYTES):
            inflated += reader.decompress(view[start : start + _PIECE_BYTES])
            if reader.eof or len(inflated) > CONTENT_BYTES_MAX:
                break
    except zlib.error:
        pass
    return inflated

"""The search for a person's texts finds them in every form that a store may give them."""

from __future__ import annotations

import gzip
import os
import zlib
from base64 import b64encode
from collections.abc import Callable

import pytest
import zstandard

from ledger.compression.documents import compress, compress_as_text
from tests.erasure.forms import find_forms
from tests.erasure.markers import Person

NOISE = os.urandom(50_000)

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda text: text,
    "upper case": lambda text: text.upper(),
    "UTF-16": lambda text: text.decode().encode("utf-16-le"),
    "UTF-16 of the other order": lambda text: text.decode().encode("utf-16-be"),
    "hexadecimal, as pg_dump writes bytea": lambda text: rb"\x" + text.hex().encode(),
    "base64": b64encode,
    "base64, one byte in": lambda text: b64encode(b"a" + text),
    "base64, two bytes in": lambda text: b64encode(b"ab" + text),
    "gzip": gzip.compress,
    "zlib, as in a PDF": zlib.compress,
    "zstd": lambda text: zstandard.compress(text),
    "zstd with our dictionary": compress,
    "our compressed text": compress_as_text,
    "a dump of zstd": lambda text: rb"\x" + compress(text).hex().encode(),
    "a dump of gzip": lambda text: rb"\x" + gzip.compress(text).hex().encode(),
    "gzip of a dump of zstd": lambda text: gzip.compress(rb"\x" + compress(text).hex().encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_text_is_found_in_every_form(form: str) -> None:
    person = Person("Ada")
    document = b'{"id": "cus_1", "name": "%s", "email": null}' % person.mark("name").encode()
    assert find_forms(NOISE + FORMS[form](document) + NOISE, [person.stem])


@pytest.mark.parametrize("form", FORMS)
def test_another_persons_text_is_not_taken_for_it(form: str) -> None:
    content = NOISE + FORMS[form](Person("Ben").mark("name").encode()) + NOISE
    assert not find_forms(content, [Person("Ada").stem])

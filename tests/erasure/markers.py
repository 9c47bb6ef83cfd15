"""A person whose data is made of marks: texts that occur nowhere else, so that each can be looked for.

All marks of one person begin with the same random letters, the stem; the letters after it say which place
the mark was planted in.
"""

from __future__ import annotations

import re
import secrets
import zlib
from string import ascii_lowercase

STEM_LETTERS = 14
OWN_LETTERS = 8


def draw_letters(count: int) -> str:
    """Random lower-case letters."""
    return "".join(secrets.choice(ascii_lowercase) for _ in range(count))


class Person:
    """Someone with a mark in each place; `marks` has them by the name of the place."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stem = draw_letters(STEM_LETTERS)
        self.marks: dict[str, str] = {}

    def mark(self, place: str) -> str:
        """The mark of a place, 22 letters: the same each time."""
        return self.marks.setdefault(place, self.stem + draw_letters(OWN_LETTERS))

    def find_places(self, content: bytes) -> set[str]:
        """The places whose mark is in the content, in plain form. A mark that none of the places has is
        named itself."""
        by_mark = {mark: place for place, mark in self.marks.items()}
        found = re.findall(rb"%s[a-z]{%d}" % (self.stem.encode(), OWN_LETTERS), content)
        return {by_mark.get(each.decode(), each.decode()) for each in found}


def make_pdf(text: str, *, compressed: bool) -> bytes:
    """A document with the text in its content stream."""
    page = f"BT ({text}) Tj ET".encode()
    stream = zlib.compress(page) if compressed else page
    content_filter = b"/Filter/FlateDecode" if compressed else b""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>",
        b"<</Length %d%s>>stream\n%s\nendstream" % (len(stream), content_filter, stream),
    ]
    document, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, start=1):
        places.append(len(document))
        document += b"%d 0 obj%sendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return b"%sxref\n0 5\n0000000000 65535 f \n%strailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        document, table, len(document),
    )  # fmt: skip

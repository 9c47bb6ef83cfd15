"""A person whose data is made of marks: texts that occur nowhere else, so that each can be looked for.

All marks of one person begin with the same random letters, the stem; the letters after it say which place
the mark was planted in.
"""

from __future__ import annotations

import re
import secrets
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

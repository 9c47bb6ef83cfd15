"""The names that a caller probably meant: for errors about a name that does not exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import SequenceMatcher
from heapq import nlargest

NAME_LENGTH_MAX = 80
"""Longer names than this are compared by their beginning: the time grows with the square of the length."""
LISTED_MAX = 21
"""Up to so many alternatives are all listed, in their own order."""
NEAREST_COUNT = 5

_RATIO_MIN = 0.7


def find_nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that is most like `name`; None if none is so much like it that it may be a slip."""
    ranked = _rank(name, candidates, 1, _RATIO_MIN)
    return ranked[0] if ranked else None


def list_alternatives(name: str, candidates: Collection[str], described_in: str = "") -> str:
    """The candidates as an error about `name` lists them: all of a short list, `a, b, or c`; of a long one
    the nearest, how many more there are, and where they are described."""
    if len(candidates) <= LISTED_MAX:
        return _join_alternatives(list(candidates))
    nearest = _rank(name, candidates, NEAREST_COUNT, 0.0)
    where = f" (see {described_in})" if described_in else ""
    return f"{', '.join(nearest)}, or one of {len(candidates) - len(nearest)} more{where}"


def _rank(name: str, candidates: Iterable[str], count: int, ratio_min: float) -> list[str]:
    """At most `count` candidates, the nearest first; of equally near ones, the first in their order."""
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(name[:NAME_LENGTH_MAX].lower())

    def measure(candidate: str) -> float:
        matcher.set_seq1(candidate.lower())
        if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < ratio_min:
            return 0.0
        return matcher.ratio()

    measured = ((measure(candidate), -place, candidate) for place, candidate in enumerate(candidates))
    return [candidate for ratio, _, candidate in nlargest(count, measured) if ratio >= ratio_min]


def _join_alternatives(values: list[str]) -> str:
    """The values as an error lists them: `a`, `a or b`, `a, b, or c`."""
    if len(values) < 3:
        return " or ".join(values)
    return f"{', '.join(values[:-1])}, or {values[-1]}"

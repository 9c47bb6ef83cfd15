"""What differs between two versions of an object's JSON, member by member.

A path is in the contract's bracket form: `evidence[receipt]`, `balance_transactions[0][amount]`. A member
that does not exist is the same as null, as in `previous_attributes` (contract §4.2). The items of two lists
are compared by their place. Redacted values are all the same, so a change from one to another is known only
from the event that made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from ledger.domain.event import DomainEvent
from ledger.domain.redaction.documents import REDACTED
from ledger.wire.json_values import Json

Path = tuple[str | int, ...]
_encode = msgspec.json.Encoder(order="deterministic").encode


class Difference(NamedTuple):
    """A value that differs.

    withheld  whether `before` and `after` lack what is personal data: then both are what is seen without it,
              and the path ends at the last member that is seen without it ('': the whole object)
    """

    path: str
    before: Any
    after: Any
    withheld: bool = False

    def to_json(self) -> Json:
        """As in answers: `personal_data` marks a difference whose values are withheld."""
        shown: Json = {"path": self.path, "before": self.before, "after": self.after}
        return {**shown, "personal_data": True} if self.withheld else shown


class Views(NamedTuple):
    """One version of an object: whole, and as a caller may see it. Both are the same if it may see all.
    `is_redacted`: whether its personal data was erased, so that texts in it may be placeholders."""

    whole: Json
    visible: Json
    is_redacted: bool = False


_EMPTY: Json = {}
NOTHING = Views(_EMPTY, _EMPTY)
"""An object before its creation."""


def describe_differences(before: Views, after: Views, event: DomainEvent | None = None) -> list[Json]:
    """What differs, as in answers; `redacted` marks a difference of which a value is redacted. `event`: the
    one that made the difference, which tells what of the redacted it has changed."""
    described = []
    found = find_differences(before, after)
    for each in found:
        is_redacted = after.is_redacted and REDACTED in (each.before, each.after)
        described.append(each.to_json() | ({"redacted": True} if is_redacted else {}))
    known = {each.path for each in found}
    withheld = after.visible is not after.whole
    for path in _list_redacted_changes(event) if event is not None else ():
        if format_path(path) not in known:
            old, new = _look_up(before.visible, path), _look_up(after.visible, path)
            each = Difference(format_path(path), old, new, withheld)
            described.append(each.to_json() | {"redacted": True})
    return described


def _list_redacted_changes(event: DomainEvent) -> Iterator[Path]:
    """The members that a redacted event has changed from one redacted value to another."""
    if event.redaction and event.originator_version > 1:
        yield from _list_redacted((), getattr(event, "changes", None))
        yield from _list_redacted(("evidence",), getattr(event, "evidence", None))


def _list_redacted(path: Path, value: Any) -> Iterator[Path]:
    if value == REDACTED or (value == {} and path):
        yield path
    elif isinstance(value, dict | list):
        for name, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _list_redacted((*path, name), member)


def find_differences(before: Views, after: Views) -> list[Difference]:
    """What differs. The whole versions are compared: that personal data has changed is said, also to a caller
    who does not see what it was or is."""
    found: dict[str, Difference] = {}
    for path, old, new in _walk((), before.whole, after.whole):
        if before.visible is before.whole and after.visible is after.whole:
            found[format_path(path)] = Difference(format_path(path), old, new)
            continue
        seen = _cut(path, (before.visible, after.visible))
        is_cut = len(seen) < len(path)
        visible_old = None if is_cut else _look_up(before.visible, seen)
        visible_new = None if is_cut else _look_up(after.visible, seen)
        withheld = is_cut or not (_is_same(visible_old, old) and _is_same(visible_new, new))
        found.setdefault(format_path(seen), Difference(format_path(seen), visible_old, visible_new, withheld))
    return list(found.values())


def format_path(path: Path) -> str:
    """The path in bracket form."""
    return "".join(str(part) if not place else f"[{part}]" for place, part in enumerate(path))


def _walk(path: Path, old: Any, new: Any) -> Iterator[tuple[Path, Any, Any]]:
    """The places at which `old` and `new` differ, with the values there: no deeper than both have members."""
    if _is_same(old, new):
        return
    if _may_be(dict, old, new):
        old, new = old or {}, new or {}
        for name in (*new, *(name for name in old if name not in new)):
            yield from _walk((*path, name), old.get(name), new.get(name))
    elif _may_be(list, old, new):
        old, new = old or [], new or []
        for place in range(max(len(old), len(new))):
            yield from _walk((*path, place), _get_item(old, place), _get_item(new, place))
    else:
        yield path, old, new


def _may_be(kind: type[dict[Any, Any]] | type[list[Any]], old: Any, new: Any) -> bool:
    """Whether both are of this kind and have members to compare, or one is and the other is null."""
    return (
        (isinstance(old, kind) or old is None) and (isinstance(new, kind) or new is None) and bool(old or new)
    )


def _is_same(old: Any, new: Any) -> bool:
    # In Python 1 equals true, which in JSON is another value.
    return old is new or (old == new and _encode(old) == _encode(new))


def _get_item(items: Sequence[Any], place: int) -> Any:
    return items[place] if place < len(items) else None


def _cut(path: Path, versions: Sequence[Json]) -> Path:
    """The beginning of `path` that exists in one of the versions: the names behind it are not to be seen."""
    return max((_cut_to(path, version) for version in versions), key=len)


def _cut_to(path: Path, value: Any) -> Path:
    for length, part in enumerate(path):
        if not _has(value, part):
            return path[:length]
        value = value[part]
    return path


def _look_up(value: Any, path: Path) -> Any:
    for part in path:
        if not _has(value, part):
            return None
        value = value[part]
    return value


def _has(value: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return isinstance(value, list) and part < len(value)
    return isinstance(value, dict) and part in value

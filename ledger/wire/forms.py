"""Decodes `application/x-www-form-urlencoded` bodies and query strings into nested dicts (contract §1.3).

Any bytes lead to a form or an `InvalidParameter`, at a cost that the limits below bound. A form is
`{name: text | form}`. Arrays and hashes both have brackets, so both become dicts, and the parameter table
decides which one is meant: `a[0]=x` becomes `{"a": {"0": "x"}}`; `a[]=x` becomes `{"a": {0: "x"}}`, with an
`int` as index because the caller wrote none.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from ledger.errors import InvalidParameter

BODY_BYTES_MAX = 8_000_000
"""Bytes of a form. The largest valid one has 150,000 characters of evidence, 12 bytes each
(`%F0%9F%98%80`)."""

PARAMETERS_MAX = 1_000
"""Pairs in one form. The largest parameter table, with 50 metadata keys, needs fewer than 150."""

DEPTH_MAX = 8
"""Pairs of brackets in one name. The deepest name in any parameter table has 6."""

NAME_LENGTH_MAX = 500
"""Characters of one decoded name. The longest in any parameter table has about 120."""

_NAMES_CACHED_MAX = 2_048

_decode_escapes = codecs.getdecoder("unicode_escape")  # bytes.decode would look it up in each call: 1 µs


def decode(
    raw: bytes,
    *,
    only_names: Collection[str] | None = None,
    body_bytes_max: int = BODY_BYTES_MAX,
    parameters_max: int = PARAMETERS_MAX,
) -> dict[str, Any]:
    """The form in `raw`; {} for no bytes. The last of several values of one name wins.

    If `only_names` is set, parameters of other names are ignored, whatever their brackets. Raises
    InvalidParameter beyond the limits, for a NUL character, bytes or escapes that are not UTF-8, unbalanced
    brackets, and one name used for both a value and a hash.
    """
    if not raw:
        return {}
    text, ampersand, equals = _decode_text(raw, body_bytes_max, parameters_max)
    form: dict[str, Any] = {}
    for pair in text.split(ampersand):
        name, separator, value = pair.partition(equals)
        if not name:
            if separator:
                raise InvalidParameter("Invalid request: a parameter has no name.")
            continue  # `a=1&&b=2` or a trailing `&`
        if only_names is not None and name.partition("[")[0] not in only_names:
            continue
        if "\0" in value:
            value = value.replace(equals, "=")
        parents, leaf, unnumbered = _parse_name(name)
        if unnumbered:
            _insert_unnumbered(form, (*parents, leaf), value)
            continue
        node = form
        for segment in parents:
            child = node.get(segment)
            if child is None:
                child = node[segment] = {}
            elif type(child) is str:
                raise _mixed_types_error(name)
            node = child
        if leaf in node and type(node[leaf]) is dict:
            raise _mixed_types_error(name)
        node[leaf] = value
    return form


def _decode_text(raw: bytes, body_bytes_max: int, parameters_max: int) -> tuple[str, str, str]:
    """The form as text without escapes, and the strings that separate its pairs, and name and value."""
    if len(raw) > body_bytes_max:
        raise InvalidParameter(f"The request is too large: at most {body_bytes_max} bytes are accepted.")
    if raw.count(b"&") >= parameters_max:
        raise InvalidParameter(f"Too many parameters: at most {parameters_max} are accepted in one request.")
    try:
        text = str(raw, "utf-8")
    except UnicodeDecodeError:
        raise _invalid_utf8_error() from None
    if "\0" in text or "%00" in text:  # %00 is always NUL, because a percent sign is escaped as %25
        raise InvalidParameter("Invalid request: the parameters contain a NUL character.")
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text:
        return text, "&", "="
    # Unescaping the whole form at once costs as much as one value. The separators are first marked with a
    # NUL, which occurs nowhere else, to distinguish them from unescaped `&` and `=` afterwards.
    ampersand, equals = "\0&", "\0="
    return _unescape(text.replace("&", ampersand).replace("=", equals)), ampersand, equals


@lru_cache(maxsize=_NAMES_CACHED_MAX)
def _parse_name(name: str) -> tuple[tuple[str, ...], str, bool]:
    """The parents (a, b) and leaf c of a name `a[b][c]`, and whether it contains `[]`, an empty segment.

    Cached, because callers send the same few names again and again, and this is half of the cost of decoding.
    """
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidParameter(
            f"Invalid parameter name: at most {NAME_LENGTH_MAX} characters are accepted.", param=name[:40]
        )
    head, bracket, rest = name.partition("[")
    if not bracket:
        if "]" in name:
            raise _unbalanced_brackets_error(name)
        return (), name, False
    if rest.count("[") >= DEPTH_MAX:
        raise InvalidParameter(
            f"Invalid parameter name: at most {DEPTH_MAX} levels of brackets are accepted.", param=name
        )
    if not head or "]" in head or rest[-1:] != "]":
        raise _unbalanced_brackets_error(name)
    segments = rest[:-1].split("][")
    if any("[" in segment or "]" in segment for segment in segments):
        raise _unbalanced_brackets_error(name)
    return (head, *segments[:-1]), segments[-1], "" in segments


def _insert_unnumbered(form: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    """Inserts `value` at a path with empty segments (`a[]=x`, `a[][b]=x`), which receive numbers."""
    node: dict[Any, Any] = form
    for depth, segment in enumerate(path[:-1]):
        key = _choose_element_key(node, path[depth + 1 :]) if segment == "" else segment
        child = node.get(key)
        if child is None:
            child = node[key] = {}
        elif type(child) is str:
            raise _mixed_types_error(_format_name(path))
        node = child
    # Keys are never removed, so the number of keys was never used as an index before.
    leaf: str | int = len(node) if path[-1] == "" else path[-1]
    if type(node.get(leaf)) is dict:
        raise _mixed_types_error(_format_name(path))
    node[leaf] = value


def _choose_element_key(node: dict[Any, Any], remaining_path: tuple[str, ...]) -> Any:
    """The element of an array to which `[]` refers: the last one, or a new one if the last one already has a
    value at `remaining_path`."""
    if node:
        last_key = next(reversed(node))
        element = node[last_key]
        for segment in remaining_path:
            if segment == "" or type(element) is not dict:
                return last_key
            element = element.get(segment)
            if element is None:
                return last_key
    return len(node)


def _unescape(text: str) -> str:
    """The text without percent escapes. Raises InvalidParameter for an invalid escape, or bytes that are
    not UTF-8.

    Percent escapes become Python's own (`\\xXX`), which the `unicode_escape` codec decodes in C: 14 ms for
    2 MB of escapes, against 200 ms for a loop. The caller's backslashes are escaped first, so no other kind
    of escape can occur.
    """
    escaped = text.encode().replace(b"\\", b"\\x5c").replace(b"%", b"\\x")
    try:
        octets = _decode_escapes(escaped)[0].encode("latin-1")
    except UnicodeDecodeError:
        raise InvalidParameter("Invalid request: '%' must be followed by two hexadecimal digits.") from None
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise _invalid_utf8_error() from None


def _format_name(path: tuple[str, ...]) -> str:
    return path[0] + "".join(f"[{segment}]" for segment in path[1:])


def _mixed_types_error(name: str) -> InvalidParameter:
    return InvalidParameter(
        f"Invalid request: '{name}' mixes a value and a hash under one name.", param=name.partition("[")[0]
    )


def _unbalanced_brackets_error(name: str) -> InvalidParameter:
    return InvalidParameter(f"Invalid parameter name: unbalanced brackets in '{name}'.", param=name)


def _invalid_utf8_error() -> InvalidParameter:
    return InvalidParameter("Invalid request: the parameters are not valid UTF-8.")

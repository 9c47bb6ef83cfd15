"""Bytes in, nested dicts or an error out (contract §1.3)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe._encode import _api_encode

from ledger.errors import InvalidParameter
from ledger.wire import forms
from tests.work import count_calls

CALLS_MAX_REFUSED = 100
"""Function calls to refuse a form of megabytes; it took 7 to 13."""

DECODE_CASES: list[tuple[bytes, dict[str, Any]]] = [
    (b"", {}),
    (b"a=1", {"a": "1"}),
    (b"a=", {"a": ""}),
    (b"a", {"a": ""}),
    (b"&a=1&&b=2&", {"a": "1", "b": "2"}),
    (b"a=1&a=2", {"a": "2"}),
    (b"a=b=c", {"a": "b=c"}),
    (b"a=b=c%3Dd%26e", {"a": "b=c=d&e"}),
    (b"a%3Db=c", {"a=b": "c"}),
    (b"a%26b=c", {"a&b": "c"}),
    (b"a=x+y%20z%2B", {"a": "x y z+"}),
    (b"a=%E4%B8%AD&b=\xe4\xb8\xad", {"a": "中", "b": "中"}),
    (b"a=%e4%b8%ad", {"a": "中"}),
    (b"a=\\x41\\n%5C%41", {"a": "\\x41\\n\\A"}),
    (b"a=%2500", {"a": "%00"}),
    (b"a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
    (b"a%5Bb%5D%5bc%5d=1", {"a": {"b": {"c": "1"}}}),
    (b"a[0]=x&a[1]=y", {"a": {"0": "x", "1": "y"}}),
    (b"a[7]=x&a[3]=y", {"a": {"7": "x", "3": "y"}}),
    (b"a[]=x&a[]=y", {"a": {0: "x", 1: "y"}}),
    (b"a[][b]=1&a[][c]=2&a[][b]=3", {"a": {0: {"b": "1", "c": "2"}, 1: {"b": "3"}}}),
    (b"a[][b][c]=1&a[][b][d]=2&a[][b][c]=3", {"a": {0: {"b": {"c": "1", "d": "2"}}, 1: {"b": {"c": "3"}}}}),
    (b"a[][b][]=1&a[][b][]=2", {"a": {0: {"b": {0: "1", 1: "2"}}}}),
    (b"a[0][b]=1&a[1][b]=2", {"a": {"0": {"b": "1"}, "1": {"b": "2"}}}),
    (b"metadata[a b]=1&metadata[a%20b]=2", {"metadata": {"a b": "2"}}),
]


@pytest.mark.parametrize(("raw", "form"), DECODE_CASES)
def test_bytes_become_a_form(raw: bytes, form: dict[str, Any]) -> None:
    assert forms.decode(raw) == form


REFUSED: list[tuple[bytes, str]] = [
    (b"=1", "no name"),
    (b"a=1&=2%41", "no name"),
    (b"a=\0", "NUL"),
    (b"a=%00", "NUL"),
    (b"a%00b=1", "NUL"),
    (b"a=%zz", "hexadecimal"),
    (b"a=%4", "hexadecimal"),
    (b"a=%", "hexadecimal"),
    (b"a=%&b=41", "hexadecimal"),
    (b"a%=1", "hexadecimal"),
    (b"a=%FF", "UTF-8"),
    (b"a=%ED%A0%80", "UTF-8"),
    (b"a=\xff", "UTF-8"),
    (b"a=%E4&b=%B8%AD", "UTF-8"),
    (b"a[b=1", "unbalanced"),
    (b"a]b=1", "unbalanced"),
    (b"a[b]c=1", "unbalanced"),
    (b"a[[b]]=1", "unbalanced"),
    (b"a[b]][c]=1", "unbalanced"),
    (b"[a]=1", "unbalanced"),
    (b"]a[b]=1", "unbalanced"),
    (b"a=1&a[b]=2", "mixes"),
    (b"a[b]=2&a=1", "mixes"),
    (b"a[b]=1&a[b][c]=2", "mixes"),
    (b"a[b][c]=2&a[b]=1", "mixes"),
    (b"a=1&a[]=2", "mixes"),
    (b"a[]=2&a=1", "mixes"),
    (b"a[]=1&a[][b]=2", "mixes"),
    (b"a" + b"[b]" * 9 + b"=1", "levels"),
    (b"a" * 501 + b"=1", "characters"),
]


@pytest.mark.parametrize(("raw", "words"), REFUSED)
def test_malformed_bytes_are_refused(raw: bytes, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        forms.decode(raw)


def test_mixing_names_the_parameter() -> None:
    with pytest.raises(InvalidParameter) as refusal:
        forms.decode(b"a[b]=1&a[b][c]=2")
    assert refusal.value.param == "a"


def test_limits_are_exact() -> None:
    assert len(forms.decode(b"&".join(b"a%d=1" % n for n in range(forms.PARAMETERS_MAX)))) == 1_000
    assert forms.decode(b"a" * forms.NAME_LENGTH_MAX + b"=1")
    assert forms.decode(b"a" + b"[b]" * forms.DEPTH_MAX + b"=1")
    assert forms.decode(b"a=" + b"x" * (forms.BODY_BYTES_MAX - 2))


def test_other_names_are_ignored_if_only_some_are_wanted() -> None:
    raw = b"a=1&b=2&b[c]=3&d]=4&e[=5&a[=6&a2=7"
    assert forms.decode(raw.replace(b"&a[=6", b""), only_names=("a",)) == {"a": "1"}
    with pytest.raises(InvalidParameter, match="brackets"):
        forms.decode(raw, only_names=("a",))


HOSTILE: dict[str, bytes] = {
    "5 MB": b"a" * 5_000_000,
    "5 MB of pairs": b"a=1&" * 1_250_000,
    "10,000 parameters": b"&".join(b"a%d=1" % n for n in range(10_000)),
    "200 deep": b"a" + b"[b]" * 200 + b"=1",
    "100 deep, short": b"a" + b"[]" * 100 + b"=1",
    "2 MB of brackets": b"a" + b"[" * 1_900_000 + b"=1",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_forms_are_refused_before_they_are_decoded(raw: bytes) -> None:
    def decode() -> None:
        with pytest.raises(InvalidParameter):
            forms.decode(raw)

    assert count_calls(decode) < CALLS_MAX_REFUSED


def test_the_work_for_a_form_grows_with_its_parameters_and_no_faster() -> None:
    def decode(parameters: int) -> Callable[[], object]:
        return lambda: forms.decode(b"&".join([b"a[][][][][][][]=1"] * parameters))

    half, full = (count_calls(decode(forms.PARAMETERS_MAX // n)) for n in (2, 1))
    assert full < 2.2 * half
    assert count_calls(lambda: forms.decode(b"a=" + b"x%41" * 490_000)) < CALLS_MAX_REFUSED


_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_names = st.text(st.characters(codec="utf-8", exclude_characters="\0[]"), min_size=1, max_size=12)
_values = st.recursive(
    _texts | st.integers(),  # no booleans: within a list the SDK sends `True`
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(_names, inner, min_size=1, max_size=3)
    ),
    max_leaves=12,
)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()))
    if isinstance(value, list):
        return 1 + max(map(_depth, value))
    return 0


def _expected_form(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _expected_form(member) for name, member in value.items()}
    if isinstance(value, list):
        return {str(index): _expected_form(item) for index, item in enumerate(value)}
    return str(value)


@given(st.dictionaries(_names, _values.filter(lambda value: _depth(value) <= forms.DEPTH_MAX), max_size=4))
def test_what_the_sdk_encodes_decodes_to_the_same(params: dict[str, Any]) -> None:
    encoded = urlencode(list(_api_encode(params))).replace("%5B", "[").replace("%5D", "]")
    assert forms.decode(encoded.encode()) == _expected_form(params)


@given(st.binary(max_size=200) | st.text("ab[]=&%+0123f\\x\0", max_size=60).map(str.encode))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    with suppress(InvalidParameter):
        assert all(type(name) is str for name in forms.decode(raw))

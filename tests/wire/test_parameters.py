"""Each kind of parameter: values and the errors of contract §1.6 and §1.10."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidParameter
from ledger.wire import forms
from ledger.wire.forms import decode
from ledger.wire.parameters import (
    PAGINATION,
    Array,
    Hash,
    Metadata,
    ParameterTable,
    TimestampFilter,
    Unsupported,
)
from ledger.wire.scalars import Boolean, Choice, Integer, Text, Timestamp

TABLE = ParameterTable(
    {
        "text": Text(length_max=5, length_min=2, unsettable=True),
        "code": Text(pattern=r"[A-Z]+", pattern_rule="must be capitals"),
        "count": Integer(minimum=1, maximum=10),
        "any_count": Integer(),
        "spare": Integer(unsettable=True),
        "when": Timestamp(),
        "flag": Boolean(),
        "fee": Boolean(only_true=True, unsettable=True),
        "pick": Choice(("a", "b", "c"), unsettable=True),
        "two": Choice(("a", "b")),
        "hash": Hash({"x": Hash({"y": Text(required=True), "z": Boolean()}), "t": Text()}, unsettable=True),
        "hard_hash": Hash({"t": Text()}),
        "list": Array(Text(length_max=3), items_max=3),
        "rows": Array(Hash({"n": Integer(required=True)}), items_max=2, unsettable=True),
        "picks": Array(Choice(("a", "b")), items_max=2),
        "metadata": Metadata(),
        "created": TimestampFilter(),
        "elsewhere": Unsupported("clocks are not served"),
        "left": Text(),
        "right": Text(),
        **PAGINATION,
    },
    exclusive=("left", "right"),
)

PARSE_CASES: list[tuple[bytes, dict[str, Any]]] = [
    (b"", {}),
    (b"text=abc", {"text": "abc"}),
    (b"text=", {"text": None}),
    (b"code=ABC", {"code": "ABC"}),
    (b"count=10", {"count": 10}),
    (b"count=007", {"count": 7}),
    (b"any_count=-5", {"any_count": -5}),
    (b"spare=", {"spare": None}),
    (b"when=1700000000", {"when": 1700000000}),
    (b"flag=true", {"flag": True}),
    (b"flag=false", {"flag": False}),
    (b"fee=true", {"fee": True}),
    (b"fee=", {"fee": None}),
    (b"pick=b", {"pick": "b"}),
    (b"pick=", {"pick": None}),
    (b"hash[x][y]=1&hash[x][z]=false", {"hash": {"x": {"y": "1", "z": False}}}),
    (b"hash=", {"hash": None}),
    (b"list[]=x&list[]=y", {"list": ["x", "y"]}),
    (b"list[0]=x&list[1]=y", {"list": ["x", "y"]}),
    (b"list[10]=y&list[9]=x", {"list": ["x", "y"]}),
    (b"rows[0][n]=1&rows[1][n]=2", {"rows": [{"n": 1}, {"n": 2}]}),
    (b"rows[][n]=1&rows[][n]=2", {"rows": [{"n": 1}, {"n": 2}]}),
    (b"rows=", {"rows": None}),
    (b"metadata[a]=1&metadata[b]=", {"metadata": {"a": "1", "b": ""}}),
    (b"metadata[0]=x", {"metadata": {"0": "x"}}),
    (b"metadata=", {"metadata": None}),
    (b"created=5", {"created": {"eq": 5}}),
    (b"created[gt]=5&created[lte]=9", {"created": {"gt": 5, "lte": 9}}),
    (b"limit=0", {"limit": 1}),
    (b"limit=-1", {"limit": 1}),
    (b"limit=101", {"limit": 100}),
    (b"limit=50", {"limit": 50}),
    (b"limit=" + b"9" * 30, {"limit": 100}),
    (b"left=1", {"left": "1"}),
    (b"starting_after=x&ending_before=y", {"starting_after": "x", "ending_before": "y"}),
    (b"expand[]=a.b&expand[]=c", {"expand": ["a.b", "c"]}),
]


@pytest.mark.parametrize(("raw", "values"), PARSE_CASES)
def test_what_was_sent_becomes_typed_values(raw: bytes, values: dict[str, Any]) -> None:
    assert TABLE.parse(decode(raw)) == {"limit": 10, **values}


EMPTY = "parameter_invalid_empty"
UNKNOWN = "parameter_unknown"
MISSING = "parameter_missing"
INTEGER = "parameter_invalid_integer"

REFUSED: list[tuple[bytes, str | None, str | None, str]] = [
    (b"nope=1", UNKNOWN, "nope", "Received unknown parameter: nope"),
    (b"nope[a]=1", UNKNOWN, "nope[a]", "Received unknown parameter: nope[a]"),
    (b"nope[a][b][]=1&nope[c]=2", UNKNOWN, "nope[a][b][0]", "Received unknown parameter: nope[a][b][0]"),
    (b"hash[nope]=1", UNKNOWN, "hash[nope]", "Received unknown parameter: hash[nope]"),
    (b"hash[x][q][r]=1", UNKNOWN, "hash[x][q]", "Received unknown parameter: hash[x][q]"),
    (b"hash[]=1", UNKNOWN, "hash[0]", "Received unknown parameter: hash[0]"),
    (b"rows[3][q]=1", UNKNOWN, "rows[3][q]", "Received unknown parameter: rows[3][q]"),
    (b"created[ne]=1", UNKNOWN, "created[ne]", "Received unknown parameter: created[ne]"),
    (b"hash[x][z]=true", MISSING, "hash[x][y]", "Missing required param: hash[x][y]."),
    (b"left=", EMPTY, "left", "You passed an empty string for 'left'."),
    (b"count=", EMPTY, "count", "You passed an empty string for 'count'."),
    (b"flag=", EMPTY, "flag", "You passed an empty string for 'flag'."),
    (b"two=", EMPTY, "two", "You passed an empty string for 'two'."),
    (b"list=", EMPTY, "list", "You passed an empty string for 'list'."),
    (b"list[0]=", EMPTY, "list[0]", "You passed an empty string for 'list[0]'."),
    (b"hard_hash=", EMPTY, "hard_hash", "You passed an empty string for 'hard_hash'."),
    (b"created=", EMPTY, "created", "You passed an empty string for 'created'."),
    (b"count=abc", INTEGER, "count", "Invalid integer: abc"),
    (b"count=1.5", INTEGER, "count", "Invalid integer: 1.5"),
    (b"count=1_0", INTEGER, "count", "Invalid integer: 1_0"),
    (b"count=%2B5", INTEGER, "count", "Invalid integer: +5"),
    (b"count=+5", INTEGER, "count", "Invalid integer:  5"),
    (b"count=%D9%A3", INTEGER, "count", "Invalid integer: ٣"),
    (b"count=5%0A", INTEGER, "count", "Invalid integer: 5\n"),
    (b"count[a]=5", INTEGER, "count", 'Invalid integer: {"a": "5"}'),
    (
        b"any_count=99999999999999999999",
        INTEGER,
        "any_count",
        "This value must be less than or equal to 92233",
    ),
    (b"any_count=" + b"9" * 5000, INTEGER, "any_count", "Invalid integer: 999"),
    (
        b"any_count=9999999999999999999",
        INTEGER,
        "any_count",
        "This value must be less than or equal to 92233",
    ),
    (b"count=0", INTEGER, "count", "This value must be greater than or equal to 1."),
    (b"count=11", INTEGER, "count", "This value must be less than or equal to 10."),
    (b"when=now", INTEGER, "when", "Invalid integer: now"),
    (b"limit=ten", INTEGER, "limit", "Invalid integer: ten"),
    (b"created[gt]=x", INTEGER, "created[gt]", "Invalid integer: x"),
    (b"rows[2][n]=x", INTEGER, "rows[2][n]", "Invalid integer: x"),
    (b"flag=1", None, "flag", "Invalid boolean: 1"),
    (b"flag=TRUE1", None, "flag", "Invalid boolean: TRUE1"),
    (b"flag[a]=true", None, "flag", 'Invalid boolean: {"a": "true"}'),
    (b"fee=false", None, "fee", "Invalid fee: must be true"),
    (b"text[a]=1", None, "text", 'Invalid string: {"a": "1"}'),
    (b"text[]=1", None, "text", 'Invalid string: {"0": "1"}'),
    (b"pick[a]=1", None, "pick", 'Invalid string: {"a": "1"}'),
    (b"hash=1", None, "hash", "Invalid object"),
    (b"hash[x]=1", None, "hash[x]", "Invalid object"),
    (b"metadata=1", None, "metadata", "Invalid object"),
    (b"list=1", None, "list", "Invalid array"),
    (b"list[a]=1", None, "list", "Invalid array"),
    (b"list[-1]=1", None, "list", "Invalid array"),
    (b"expand=charge", None, "expand", "Invalid array"),
    (b"list[]=1&list[]=2&list[]=3&list[]=4", None, "list", "Invalid array: at most 3 items are accepted"),
    (b"list[4]=x&list[6]=long", None, "list[6]", "Invalid string: long; must be at most 3 characters"),
    (b"pick=d", None, "pick", "Invalid pick: must be one of a, b, or c"),
    (b"two=d", None, "two", "Invalid two: must be one of a or b"),
    (b"picks[1]=d", None, "picks[1]", "Invalid picks[1]: must be one of a or b"),
    (b"text=abcdef", None, "text", "Invalid string: abcdef; must be at most 5 characters"),
    (b"text=a", None, "text", "Invalid string: a; must be at least 2 characters"),
    (b"code=abc", None, "code", "Invalid code: must be capitals"),
    (
        b"elsewhere=1",
        None,
        "elsewhere",
        "The parameter 'elsewhere' is not supported here: clocks are not served.",
    ),
    (b"elsewhere[a][b]=1", None, "elsewhere", "The parameter 'elsewhere' is not supported here"),
    (b"elsewhere=", None, "elsewhere", "The parameter 'elsewhere' is not supported here"),
    (b"left=1&right=2", None, "left", "You may only specify one of these parameters: left, right."),
    (b"metadata[a][b]=1", None, "metadata[a]", 'Invalid string: {"b": "1"}'),
    (b"metadata[]=1", None, "metadata[]", "Metadata keys cannot be empty."),
    (b"metadata[" + b"k" * 41 + b"]=1", None, f"metadata[{'k' * 41}]", "Metadata keys can be at most 40"),
    (b"metadata[k]=" + b"v" * 501, None, "metadata[k]", "Metadata values can be at most 500"),
]


def test_one_of_several_is_needed() -> None:
    table = ParameterTable(
        {"a": Text(), "b": Text(), "c": Text()}, exclusive=("a", "b", "c"), one_required=True
    )
    assert table.parse({"b": "1"}) == {"b": "1"}
    with pytest.raises(InvalidParameter) as refusal:
        table.parse({})
    assert refusal.value.message == (
        "One of the following params should be provided for this request: a, b or c."
    )
    assert (refusal.value.code, refusal.value.param) == (None, None)


@pytest.mark.parametrize(("raw", "code", "param", "message"), REFUSED)
def test_an_invalid_value_is_refused_with_its_full_name(
    raw: bytes, code: str | None, param: str | None, message: str
) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        TABLE.parse(decode(raw))
    assert (refusal.value.code, refusal.value.param) == (code, param)
    assert refusal.value.message.startswith(message)
    assert len(refusal.value.message) < 400


def test_a_missing_top_level_parameter_is_named() -> None:
    with pytest.raises(InvalidParameter) as refusal:
        ParameterTable({"x": Text(required=True)}).parse({})
    assert (refusal.value.code, refusal.value.param) == (MISSING, "x")


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(InvalidParameter) as refusal:
        ParameterTable({"x": Text(length_max=100)}).parse({"x": "a" * 50_000})
    assert refusal.value.message == f"Invalid string: {'a' * 30}...{'a' * 30}; must be at most 100 characters"


def test_results_of_two_parses_share_nothing() -> None:
    first = TABLE.parse({})
    first["limit"] = 99
    assert TABLE.parse({})["limit"] == 10


def test_schema_says_what_the_parser_does() -> None:
    properties = TABLE.schema()["properties"]
    assert properties["text"] == {"type": "string", "maxLength": 5}
    assert properties["count"] == {"type": "integer", "minimum": 1, "maximum": 10}
    assert properties["pick"] == {"type": "string", "enum": ["a", "b", "c", ""]}
    assert properties["rows"]["anyOf"][0]["items"]["required"] == ["n"]
    assert properties["rows"]["anyOf"][1] == {"type": "string", "enum": [""]}
    assert properties["limit"]["default"] == 10
    assert "elsewhere" not in properties
    assert TABLE.schema()["additionalProperties"] is False


def test_openapi_marks_nested_parameters_as_deep_objects() -> None:
    by_name = {parameter["name"]: parameter for parameter in TABLE.query_parameters()}
    assert by_name["created"]["style"] == "deepObject"
    assert "style" not in by_name["limit"]
    content = TABLE.request_body()["content"]["application/x-www-form-urlencoded"]
    assert content["encoding"]["hash"] == {"style": "deepObject", "explode": True}
    assert "text" not in content["encoding"]


_part = st.text("abcxyz_", min_size=1, max_size=5)


@given(_part.filter(lambda name: name not in TABLE.members), st.lists(_part, max_size=forms.DEPTH_MAX))
def test_an_unknown_name_is_reported_as_it_was_sent(head: str, members: list[str]) -> None:
    name = head + "".join(f"[{member}]" for member in members)
    with pytest.raises(InvalidParameter) as refusal:
        TABLE.parse(decode(f"{name}=1".encode()))
    assert (refusal.value.code, refusal.value.param) == (UNKNOWN, name)
    text, _, suggestion = refusal.value.message.partition(". Did you mean ")
    assert text == f"Received unknown parameter: {name}"
    assert not suggestion or re.split(r"[\[?]", suggestion)[0] in TABLE.members

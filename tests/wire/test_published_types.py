"""The closed table of published types against the SDK: paths, parameters, deletion, expandable members."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import stripe
from stripe._request_options import RequestOptions

from ledger.accounts import SCOPES
from ledger.wire.aggregates import LEDGER_OBJECT_TYPES
from ledger.wire.parameters import PAGINATION, TimestampFilter, Unsupported
from ledger.wire.published_types import EXPANDABLE_MEMBERS, PUBLISHED_TYPES, PublishedType
from ledger.wire.scalars import Boolean, Text
from ledger.wire.tables.published import build_list_table

STRIPE = Path(stripe.__file__).parent
EXCLUDED_PATHS = {
    "/v1/accounts": "own",
    "/v1/apps/secrets": "stored secrets",
    "/v1/balance_transactions": "own",
    "/v1/charges": "own",
    "/v1/credit_notes/preview/lines": "a preview",
    "/v1/customers": "own",
    "/v1/disputes": "own",
    "/v1/events": "own",
    "/v1/file_links": "own",
    "/v1/files": "own",
    "/v1/payment_intents": "own",
    "/v1/payment_methods": "own",
    "/v1/refunds": "own",
    "/v1/webhook_endpoints": "own",
}
NOT_MEMBERS = {
    # Parameters that filter by something other than the member of their name.
    ("invoice", "subscription"), ("entitlements.active_entitlement", "customer"),
    ("billing.credit_balance_transaction", "customer"),
}  # fmt: skip
each_list = pytest.mark.parametrize(
    "row", [row for row in PUBLISHED_TYPES if row.lists], ids=lambda row: row.object_type
)


class Read(NamedTuple):
    """A GET of the SDK: what it returns, and its params class."""

    returns: str
    cls: type
    params: type | None


def _read_imports(tree: ast.Module) -> dict[str, str]:
    return {
        alias.name: node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _iterate_gets(source: str) -> Iterator[tuple[str, str, str | None]]:
    for name, arguments, returns, body in re.findall(
        r'    def (\w+)\((.*?)\) -> "(.*?)":\n(.*?)(?=\n    (?:async )?def |\Z)', source, re.DOTALL
    ):
        found = re.search(r'self\._request\(\s*"get",\s*"([^"]+)"', body)
        if found and not name.endswith("_async"):
            params = re.search(r'params: (?:Optional\[)?"(\w+)"', arguments)
            yield found[1], returns, params and params[1]


@cache
def load_reads() -> dict[str, Read]:
    """Every GET of the SDK's v1 services with one returned class, by path."""
    reads: dict[str, Read] = {}
    for file in STRIPE.rglob("_*_service.py"):
        if "v2" in file.parts:
            continue
        source = file.read_text()
        modules = _read_imports(ast.parse(source))
        for path, returns, params in _iterate_gets(source):
            name = returns.rpartition("[")[2].rstrip("]")
            if name in modules:
                cls = getattr(importlib.import_module(modules[name]), name)
                params_class = (
                    getattr(importlib.import_module(modules[params]), params) if params is not None else None
                )
                reads[path] = Read(returns, cls, params_class)
    return reads


def _annotations(cls: type) -> dict[str, Any]:
    return {
        name: hint
        for base in reversed(cls.__mro__)
        for name, hint in getattr(base, "__annotations__", {}).items()
    }


def test_every_list_of_the_sdk_is_in_the_table_or_excluded_with_a_reason() -> None:
    listed = {
        path: read.cls
        for path, read in load_reads().items()
        if read.returns.startswith("ListObject") and "{" not in path
    }
    served = {row.url: row for row in PUBLISHED_TYPES if row.lists}
    assert served.keys() | EXCLUDED_PATHS.keys() == listed.keys()
    assert not served.keys() & EXCLUDED_PATHS.keys()
    for url, row in served.items():
        assert row.object_type == vars(listed[url])["OBJECT_NAME"]


def test_every_single_read_of_the_table_is_in_the_sdk() -> None:
    paths = {re.sub(r"\{\w+\}", "{}", path): read for path, read in load_reads().items()}
    for row in PUBLISHED_TYPES:
        if row.of_customer not in (None, "subscriptions"):  # a path of earlier SDKs
            read = paths[f"/v1/customers/{{}}/{row.of_customer}"]
            assert vars(read.cls)["OBJECT_NAME"] == row.object_type
        if row.object_type == "setup_attempt" or not row.path:  # only listed
            continue
        read = paths[f"{row.url}/{{}}"]
        assert vars(read.cls)["OBJECT_NAME"] == row.object_type
        assert row.has_stub is ("deleted" in _annotations(read.cls)), row.object_type
        for member in row.parts:
            assert paths[f"{row.url}/{{}}/{member}"].returns.startswith("ListObject")


@each_list
def test_a_list_takes_the_parameters_of_the_sdk(row: PublishedType) -> None:
    read = load_reads()[row.url]
    assert read.params is not None
    hints = {
        name: str(hint)
        for name, hint in _annotations(read.params).items()
        if name not in RequestOptions.__annotations__
    }
    table = build_list_table(row)
    assert set(table.members) - PAGINATION.keys() == set(hints) - PAGINATION.keys()
    for name, hint in hints.items():
        parameter = table.members[name]
        if name in PAGINATION:
            continue
        assert isinstance(parameter, TimestampFilter) == (name == "created")
        if isinstance(parameter, Unsupported | TimestampFilter):
            continue
        assert parameter.required == ("NotRequired" not in hint), name
        assert isinstance(parameter, Boolean) == ("bool" in hint), name
        assert "List[" not in hint, name
        assert isinstance(parameter, Boolean | Text)
        assert name in _annotations(read.cls) or (row.object_type, name) in NOT_MEMBERS


def test_expandable_members_are_those_of_the_sdk() -> None:
    types: dict[str, Counter[str]] = defaultdict(Counter)
    objects = {row.object_type: load_reads().get(row.url) for row in PUBLISHED_TYPES}
    for read in filter(None, objects.values()):
        for name, cls in re.findall(
            r'(\w+): (?:\w+\[)*ExpandableField\[\s*"(\w+)"', inspect.getsource(read.cls)
        ):
            types[name][cls.removesuffix("Resource")] += 1
    names = {vars(read.cls)["OBJECT_NAME"]: read.cls.__name__ for read in load_reads().values()}
    for member, object_type in EXPANDABLE_MEMBERS.items():
        if member != "latest_charge":  # of payment intents
            assert set(types[member]) == {names[object_type]}, member


def test_the_table_is_one_of_types_of_others() -> None:
    names = [row.object_type for row in PUBLISHED_TYPES]
    assert len(set(names)) == len(names)
    paths = [row.path for row in PUBLISHED_TYPES if row.path]
    assert len(set(paths)) == len(paths)
    assert not LEDGER_OBJECT_TYPES & set(names)
    for row in PUBLISHED_TYPES:
        assert f"rak_{row.permission}_read" in SCOPES

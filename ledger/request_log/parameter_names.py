"""Which names of parameters may be kept. Pure.

An error about a parameter that an operation has names it. One about a parameter that it does not have names
what the client sent, which may be anything: a part of that is kept if some operation has a parameter of this
name, such as one that was sent to the wrong operation.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import cache

from ledger.wire import tables
from ledger.wire.parameters import Array, Hash, ParameterTable
from ledger.wire.published_types import PUBLISHED_TYPES
from ledger.wire.scalars import Parameter

REMOVED = "[removed]"
UNKNOWN_CODE = "parameter_unknown"
_NAME = re.compile(r"[a-z0-9_]{1,40}(\[[a-z0-9_]{0,40}\]){0,6}")
_PART = re.compile(r"[^\[\]]+")
_METADATA = "metadata["


def clean_parameter(name: str, code: str | None) -> str:
    """The name of the parameter in an error with this code, without what the client made up."""
    if not _NAME.fullmatch(name):
        return REMOVED
    if code != UNKNOWN_CODE:
        beginning, is_key, _ = name.partition(_METADATA)
        return f"{beginning}{_METADATA}removed]" if is_key else name
    known = list_known_names()
    parts = [part[0] for part in _PART.finditer(name)]
    if parts[0] not in known:
        return REMOVED
    return parts[0] + "".join(
        f"[{part if part in known or part.isdigit() else 'removed'}]" for part in parts[1:]
    )


@cache
def list_known_names() -> frozenset[str]:
    """The names of all parameters of the public API, and of their members."""
    modules = [
        importlib.import_module(f"{tables.__name__}.{each.name}")
        for each in pkgutil.iter_modules(tables.__path__)
    ]
    declared = [
        value for module in modules for value in vars(module).values() if isinstance(value, ParameterTable)
    ]
    names = {name for table in declared for name in _list_names(table.members)}
    return frozenset(names | {row.name for each in PUBLISHED_TYPES for row in each.filters})


def _list_names(members: Mapping[str, Parameter]) -> Iterator[str]:
    for name, parameter in members.items():
        yield name
        while isinstance(parameter, Array):
            parameter = parameter.item
        if isinstance(parameter, Hash):
            yield from _list_names(parameter.members)

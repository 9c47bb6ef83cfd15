"""A part of an OpenAPI document: the paths that a client needs, and nothing that only the others refer to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ledger.errors import SettingError

_find_references = re.compile(r'"#/components/(\w+)/([^"]+)"').findall


def select_paths(document: dict[str, Any], prefixes: Sequence[str]) -> dict[str, Any]:
    """The document with the paths that begin with one of `prefixes`. Raises SettingError for one with which
    no path begins."""
    for prefix in prefixes:
        if not any(path.startswith(prefix) for path in document["paths"]):
            raise SettingError(f"no path of the API begins with {prefix!r}")
    paths = {path: entry for path, entry in document["paths"].items() if path.startswith(tuple(prefixes))}
    components = document["components"]
    used = set(_list_used(paths, components))
    tags = {tag for methods in paths.values() for entry in methods.values() for tag in entry["tags"]}
    return document | {
        "paths": paths,
        "tags": [tag for tag in document["tags"] if tag["name"] in tags],
        "components": {
            kind: {
                name: component
                for name, component in named.items()
                if kind == "securitySchemes" or (kind, name) in used
            }
            for kind, named in components.items()
        },
    }


def _list_used(paths: dict[str, Any], components: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of each component that the paths refer to, also through another one."""
    seen: set[tuple[str, str]] = set()
    waiting: list[Any] = [paths]
    while waiting:
        for kind, name in _find_references(json.dumps(waiting.pop())):
            if (kind, name) not in seen:
                seen.add((kind, name))
                waiting.append(components[kind][name])
                yield kind, name

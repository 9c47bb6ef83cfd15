"""The tree in the docstring of `ledger.errors` is the tree of its classes."""

from __future__ import annotations

import re
import textwrap

from ledger import errors


def test_the_error_tree_in_the_docstring_matches_the_classes() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in textwrap.dedent(errors.__doc__.partition("\n")[2]).splitlines():
        match = re.match(r"([│├└─ ]*)([A-Z]\w+)(  |$)", line)
        if match is not None:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else "Exception"
    defined = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert drawn == defined

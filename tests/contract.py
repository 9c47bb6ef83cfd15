"""Which rows of the contract's tables a test tries.

A test says so itself: `@pytest.mark.contract("1.6 no key")`, or `@rows("1.6", CASES)` where each case of a
table is a row and has its name. `tests/contract_rows.txt` lists all rows there are; `tests/test_contract.py`
holds that each is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest


def rows(section: str, cases: Mapping[str, Any], argument: str = "row") -> pytest.MarkDecorator:
    """Run the test for each case, named in `argument`: it is the row of that name in the section."""
    params = [pytest.param(name, marks=pytest.mark.contract(f"{section} {name}"), id=name) for name in cases]
    return pytest.mark.parametrize(argument, params)

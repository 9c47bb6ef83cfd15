"""Marks that say which rows of the contract's tables a test checks.

A test names rows with `@pytest.mark.contract("1.6 no key")`, or with `@rows("1.6", CASES)` where each case is
a row of that name. `tests/contract_rows.txt` lists all rows; `tests/test_contract.py` checks that each has a
test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest


def rows(section: str, cases: Mapping[str, Any], argument: str = "row") -> pytest.MarkDecorator:
    """Run the test once for each case. The case's name, passed as `argument`, is the name of its row."""
    params = [pytest.param(name, marks=pytest.mark.contract(f"{section} {name}"), id=name) for name in cases]
    return pytest.mark.parametrize(argument, params)

"""Fixtures: the shared running service, and keys that read the feed."""

from __future__ import annotations

import pytest

from tests.api.conftest import account, client, http, live, raw, registrar, service  # noqa: F401  # fixtures
from tests.api.service import Account, Registrar
from tests.internal.conftest import InternalClient, operator  # noqa: F401  # fixture

# ruff: noqa: F811


@pytest.fixture
def reader(operator: InternalClient, account: Account, registrar: Registrar) -> InternalClient:
    """A key of the account with the scope `feed` and no other."""
    return InternalClient(operator.http, registrar.key(account.id, "rk", scopes=["feed"])[1])


@pytest.fixture
def whole_reader(operator: InternalClient, account: Account, registrar: Registrar) -> InternalClient:
    """A key of the account with the scope `ledger_feed` and no other."""
    return InternalClient(operator.http, registrar.key(account.id, "rk", scopes=["ledger_feed"])[1])

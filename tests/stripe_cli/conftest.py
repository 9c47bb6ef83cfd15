"""Fixtures: the Stripe CLI with a key of a new account of the shared service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.conftest import account, client, http, raw, registrar, service  # noqa: F401  # fixtures
from tests.api.service import Account, Service
from tests.stripe_cli.cli import RefusingProxy, StripeCli, run_refusing_proxy

# ruff: noqa: F811

ASKS_FOR_RELEASES = {"api.github.com:443"}
"""Whom the CLI asks for its newest release; nothing but a line of advice comes of it."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[RefusingProxy]:
    """Where the CLI's calls to other machines end. There must be none for an object of the service."""
    with run_refusing_proxy() as proxy:
        yield proxy
        assert proxy.hosts <= ASKS_FOR_RELEASES


@pytest.fixture
def cli(service: Service, account: Account, proxy: RefusingProxy, tmp_path: Path) -> StripeCli:
    """The CLI with the account's secret test key."""
    return StripeCli(tmp_path, service.url, account.secret, proxy)

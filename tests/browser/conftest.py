"""A service for browsers, with an account and its keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from tests.api.service import Account, Caller, Registrar, Service
from tests.conftest import Cluster


@pytest.fixture(scope="package")
def service(cluster: Cluster) -> Iterator[Service]:
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        running = Service(dsn, Path(place))
        yield running
        running.stop()


@pytest.fixture(scope="package")
def account(service: Service) -> Iterator[Account]:
    registrar = Registrar(service.dsn)
    yield registrar.account()
    registrar.close()


@pytest.fixture(scope="package")
def raw(service: Service, account: Account) -> Iterator[Caller]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield Caller(http, account.secret)

"""A sealed log that tests only read, or try to change in vain; and the shared running service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.api.conftest import account, client, http, raw, registrar, service  # noqa: F401  # fixtures
from tests.conftest import Cluster
from tests.internal.conftest import operator  # noqa: F401  # a fixture
from tests.store.stores import open_store
from tests.tree.sealed import append_customers, make_sealer


@pytest.fixture(scope="module")
def sealed_dsn(cluster: Cluster) -> Iterator[str]:
    """Five records, all sealed."""

    async def fill(dsn: str) -> None:
        async with open_store(dsn) as store, make_sealer(store) as sealer:
            await append_customers(store, 0, 5)
            await sealer.seal()

    with cluster.create_database() as dsn:
        asyncio.run(fill(dsn))
        yield dsn

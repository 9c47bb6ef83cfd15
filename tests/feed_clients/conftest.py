"""A ledger that tests may stop and start again, and schemas of its database for consumers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

from tests.api.conftest import check_log
from tests.conftest import Cluster
from tests.feed_clients.ledger import ConsumerDatabase, RestartableLedger


@pytest.fixture(scope="module")
def ledger(cluster: Cluster) -> Iterator[RestartableLedger]:
    """The service that the tests of a file share."""
    with cluster.create_database() as dsn, TemporaryDirectory() as place:
        ledger = RestartableLedger(dsn, Path(place))
        yield ledger
        ledger.close()
        check_log(ledger.log)


@pytest.fixture
def database(ledger: RestartableLedger) -> Iterator[ConsumerDatabase]:
    """An empty schema for the tables of one consumer, beside the log that they are compared with."""
    database = ConsumerDatabase(ledger.dsn, f"consumer_{uuid4().hex}")
    yield database
    database.close()

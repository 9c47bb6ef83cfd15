"""Fixtures: a stage of its own for each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Cluster
from tests.erasure.stage import Stage, run_stage


@pytest.fixture(scope="module")
def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A service, and an account without any person yet."""
    with cluster.create_database() as dsn, run_stage(dsn, tmp_path_factory.mktemp("stage")) as stage:
        yield stage

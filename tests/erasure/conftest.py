"""Fixtures: a stage of its own for each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.erasure.stage import Stage, run_stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Servers, a service, an account without any person yet."""
    with run_stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage

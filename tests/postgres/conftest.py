"""Directories for the data of embedded servers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.postgres.embedded import EmbeddedPostgres
from tests.postgres.servers import FAST, execute


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that every user can pass through: pytest's own is 0700."""
    directory = Path(tempfile.mkdtemp(prefix="embedded-")).resolve()
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def data_dir(place: Path) -> Path:
    """A data directory with a stopped cluster, which every test leaves so: initdb takes a second."""
    with EmbeddedPostgres(place / "data", settings=FAST) as server:
        execute(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    return place / "data"

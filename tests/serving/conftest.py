"""Directories for the data of services."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that every user may enter: as root, the database runs as a service user."""
    directory = Path(tempfile.mkdtemp(prefix="serving-")).resolve()
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)

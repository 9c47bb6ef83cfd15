"""The running service that all folders share, and a new account for each test."""

from __future__ import annotations

from tests.api.conftest import (  # noqa: F401  # fixtures
    account,
    client,
    http,
    live,
    operator,
    raw,
    registrar,
    service,
)

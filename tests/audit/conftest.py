"""Fixtures: the shared running service, called with restricted keys."""

from __future__ import annotations

from tests.api.conftest import account, client, http, raw, registrar, service  # noqa: F401  # fixtures
from tests.internal.conftest import operator  # noqa: F401  # fixture

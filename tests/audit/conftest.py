"""Fixtures: the shared running service, called as auditors call it."""

from tests.api.conftest import account, client, http, raw, registrar, service  # noqa: F401  # fixtures
from tests.internal.conftest import operator  # noqa: F401  # a fixture

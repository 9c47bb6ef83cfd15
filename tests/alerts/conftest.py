"""Fixtures: the shared running service, called by an operator."""

from tests.api.conftest import account, http, registrar, service  # noqa: F401  # fixtures
from tests.internal.conftest import operator  # noqa: F401  # a fixture

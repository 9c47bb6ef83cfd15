"""Fixtures: the shared running service, called with a preview version."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.api.conftest import account, http, raw, registrar, service  # noqa: F401  # fixtures
from tests.api.service import PREVIEW, Account, Caller, Registrar, ok
from tests.internal.conftest import InternalClient, operator  # noqa: F401  # fixture

# ruff: noqa: F811

JOBS = "/v1/privacy/redaction_jobs"
WAIT_SECONDS = 60


class PreviewCaller(Caller):
    """Plain HTTP with one key, in a preview version."""

    def __init__(self, http: httpx.Client, key: str) -> None:
        super().__init__(http, key, PREVIEW)

    def job(self, *customers: str, **form: Any) -> Any:
        """A new redaction job of these customers."""
        ids = {f"objects[customers][{index}]": each for index, each in enumerate(customers)}
        return ok(self.post(JOBS, ids | form))

    def await_job(self, job_id: str, *statuses: str) -> Any:
        """The job, once it has one of these statuses."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            job = ok(self.get(f"{JOBS}/{job_id}"))
            if job["status"] in statuses:
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.05)

    def validated_job(self, *customers: str, **form: Any) -> Any:
        """A new job, once its validation has ended."""
        return self.await_job(self.job(*customers, **form)["id"], "ready", "failed")


@pytest.fixture
def preview(http: httpx.Client, account: Account) -> PreviewCaller:
    """Plain HTTP with the account's secret test key, in a preview version."""
    return PreviewCaller(http, account.secret)


@pytest.fixture
def live_preview(http: httpx.Client, account: Account) -> PreviewCaller:
    """The same in live mode."""
    return PreviewCaller(http, account.live_secret)


@pytest.fixture
def restricted(http: httpx.Client, account: Account, registrar: Registrar) -> PreviewCaller:
    """A restricted key that may read redaction jobs."""
    return PreviewCaller(http, registrar.key(account.id, "rk", scopes=["rak_redaction_job_read"])[1])

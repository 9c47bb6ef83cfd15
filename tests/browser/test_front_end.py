"""The example page in a real browser, from another origin than the API: CORS as browsers enforce it.

Chromium runs headless and prints the page once all its requests have ended; no driver is needed.
"""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.api.service import ROOT, Account, Caller, Service, ok
from tests.browser.chromium import CHROMIUM

PAGE_SECONDS = 60

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The URL that the shop's page is served from."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(ROOT / "examples" / "front-end"))
    )
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _open_page(origin: str, service: Service, account: Account, secret: str, profile: Path) -> dict[str, str]:
    """The texts of the page by their elements' ids."""
    handed = {"api": service.url, "publishable": account.publishable, "secret": secret}
    assert CHROMIUM is not None
    run = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom",
            f"{origin}/#{urlencode(handed)}",
        ],
        capture_output=True,
        text=True,
        timeout=PAGE_SECONDS,
        check=True,
    )  # fmt: skip
    return {name: html.unescape(text) for name, text in re.findall(r'id="(\w+)">(.*?)<', run.stdout)}


def test_a_page_of_another_origin_reads_its_customer_once_and_nothing_else(
    origin: str, service: Service, account: Account, raw: Caller, tmp_path: Path
) -> None:
    customer = raw.customer(name="Jenny Rosen")["id"]
    session = ok(
        raw.post(
            "/v1/customer_sessions", {"customer": customer, "components[pricing_table][enabled]": "true"}
        )
    )
    seen = _open_page(origin, service, account, session["client_secret"], tmp_path)
    assert seen["greeting"] == "Hello, Jenny Rosen!"
    assert (seen["component"], seen["methods"]) == ("pricing_table", "0")
    assert "already been used" in seen["again"]
    assert seen["others"].startswith("403: ")
    assert seen["change"].startswith("403: ")
    again = _open_page(origin, service, account, session["client_secret"], tmp_path)
    assert again["greeting"].startswith("No access. 400: ")
    assert "already been used" in again["greeting"]
    assert "ek_test_" not in service.log

"""The example page in a real browser, from another origin than the API: CORS as browsers enforce it.

Chromium runs headless and prints the page once all its requests have ended; no driver is needed.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.api.service import ROOT, Account, Service
from tests.browser.chromium import CHROMIUM

PAGE_SECONDS = 60

needs_chromium = pytest.mark.skipif(
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


@pytest.fixture
def data_dir(service: Service, account: Account, tmp_path: Path) -> Path:
    """A data directory with the keys of the account, as `make serve` writes them."""
    keys = {"url": service.url, "secret": account.secret, "publishable": account.publishable}
    (tmp_path / "dev-keys.json").write_text(json.dumps(keys))
    return tmp_path


def _create_session(origin: str, data_dir: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the part of the shop's server."""
    return subprocess.run(
        [sys.executable, "-I", str(ROOT / "examples" / "front-end" / "session.py"), f"{origin}/"],
        env={"LEDGER_DATA_DIR": str(data_dir), **settings},
        capture_output=True,
        text=True,
        timeout=PAGE_SECONDS,
        check=False,
    )


def _open_page(address: str, profile: Path) -> dict[str, str]:
    """The texts of the page by their elements' ids."""
    assert CHROMIUM is not None
    run = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=PAGE_SECONDS,
        check=True,
    )  # fmt: skip
    return {name: html.unescape(text) for name, text in re.findall(r'id="(\w+)">(.*?)<', run.stdout)}


@needs_chromium
def test_a_page_of_another_origin_reads_its_customer_once_and_nothing_else(
    origin: str, service: Service, data_dir: Path, tmp_path: Path
) -> None:
    address = _create_session(origin, data_dir).stdout.strip()
    seen = _open_page(address, tmp_path)
    assert seen["greeting"] == "Hello, Jenny Rosen!"
    assert (seen["component"], seen["methods"]) == ("pricing_table", "0")
    assert "already been used" in seen["again"]
    assert seen["others"].startswith("403: ")
    assert seen["change"].startswith("403: ")
    again = _open_page(address, tmp_path)
    assert again["greeting"].startswith("No access. 400: ")
    assert "already been used" in again["greeting"]
    assert "ek_test_" not in service.log


def test_the_shop_reads_the_settings_of_the_service(origin: str, service: Service, data_dir: Path) -> None:
    handed = _create_session(origin, data_dir).stdout
    assert handed.startswith(f"{origin}/#{urlencode({'api': service.url})}&publishable=pk_test_")
    public = {"LEDGER_PUBLIC_URL": "https://ledger.example.com/"}
    assert (
        urlencode({"api": "https://ledger.example.com"}) in _create_session(origin, data_dir, **public).stdout
    )


def test_the_shop_says_in_one_line_what_is_missing(origin: str, account: Account, tmp_path: Path) -> None:
    refusal = _create_session(origin, tmp_path).stderr
    assert re.fullmatch(rf"there is no {tmp_path}/dev-keys\.json: .+ LEDGER_DATA_DIR .+\n", refusal)
    keys = {"url": "http://127.0.0.1:1", "secret": account.secret}
    (tmp_path / "dev-keys.json").write_text(json.dumps(keys))
    refusal = _create_session(origin, tmp_path).stderr
    assert re.fullmatch(r"nothing answers at http://127\.0\.0\.1:1 \(.+\): run `make serve` first\n", refusal)


def test_the_shop_says_what_the_service_refused(origin: str, service: Service, data_dir: Path) -> None:
    keys = {"url": service.url, "secret": "sk_test_revoked"}
    (data_dir / "dev-keys.json").write_text(json.dumps(keys))
    refused = _create_session(origin, data_dir)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(r"http\S+/v1/customers answered 401: Invalid API Key .+\n", refused.stderr)

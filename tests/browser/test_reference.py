"""The reference at `/docs` in a real browser: operations are shown and tried with a key, nothing but the
service is contacted, and the key is not kept.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from tests.api.service import Account, Caller, Service
from tests.browser.chromium import CHROMIUM, Page, open_chromium

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)"
)

TYPE = """((selector, text) => {
  const input = document.querySelector(selector);
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, text);
  input.dispatchEvent(new Event('input', { bubbles: true }));
})"""


def click(page: Page, selector: str) -> None:
    quoted = json.dumps(selector)
    page.wait_for(f"document.querySelector({quoted}) !== null")
    page.evaluate(f"document.querySelector({quoted}).click()")


def authorize(page: Page, key: str) -> None:
    click(page, "button.authorize")
    page.wait_for("document.querySelector('.auth-container input') !== null")
    page.evaluate(f"{TYPE}('.auth-container input', {json.dumps(key)})")
    click(page, ".auth-btn-wrapper button.authorize")
    page.wait_for("document.querySelector('.auth-btn-wrapper').innerText.includes('Logout')")
    click(page, ".auth-btn-wrapper .btn-done")


def execute(page: Page, service: Service, method: str, path: str) -> str:
    """What the page shows after an operation was tried out."""
    entry = httpx.get(f"{service.url}/openapi.json").json()["paths"][path][method]
    tag = entry["tags"][0].replace(" ", "_")
    block = f"#operations-{tag}-{entry['operationId']}"
    if not page.evaluate(f"document.querySelector('{block}') !== null"):
        click(page, f'.opblock-tag[data-tag="{entry["tags"][0]}"]')
    click(page, f"{block} .opblock-summary-control")
    click(page, f"{block} .try-out__btn")
    click(page, f"{block} .execute")
    shown = f"document.querySelector('{block} .live-responses-table tbody')"
    page.wait_for(f"{shown} !== null")
    text: str = page.evaluate(f"{shown}.innerText")
    return text


def test_an_operation_is_tried_with_a_key_that_goes_nowhere_else(
    service: Service, account: Account, raw: Caller, tmp_path: Path
) -> None:
    customer = raw.customer(name="Jenny Rosen")["id"]
    while customer not in raw.get("/v1/customers").text:  # the list follows the log
        time.sleep(0.05)
    with open_chromium(tmp_path) as page:
        page.open(f"{service.url}/docs")
        page.wait_for("document.querySelectorAll('.opblock-tag').length > 20")
        authorize(page, account.secret)
        answer = execute(page, service, "get", "/v1/customers")
        assert answer.startswith("200")
        assert customer in answer
        created = execute(page, service, "post", "/v1/customers")  # no field is filled with a sample
        assert created.startswith("200")
        assert '"name": null' in created
        kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
        assert account.secret not in kept
        page.open(f"{service.url}/docs?again")
        click(page, "button.authorize")
        page.wait_for("document.querySelector('.auth-container input') !== null")
        assert page.complaints == []
        assert all(url.startswith((f"{service.url}/", "data:")) for url in page.requests), page.requests


def test_the_service_page_leads_to_the_reference(service: Service, tmp_path: Path) -> None:
    with open_chromium(tmp_path) as page:
        page.open(f"{service.url}/")
        page.wait_for("document.querySelector('h1')?.innerText.startsWith('Ledger')")
        click(page, "a[href=docs]")
        page.wait_for("document.querySelector('.opblock-tag') !== null")
        assert page.complaints == []

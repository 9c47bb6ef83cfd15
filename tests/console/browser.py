"""A page of the console in a real browser, signed in. It notes what its policy or console complains of."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Response, ViewportSize

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PICTURES = ROOT / "docs" / "images" / "console"
AXE = ROOT / "tests" / "console" / "node_modules" / "axe-core" / "axe.min.js"
WIDE: ViewportSize = {"width": 1440, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}
WAIT_MS = 15_000
# Chromium reports each answer ≥ 400 as an error of the console; views show those in their own words.
_FAILED_ANSWER = "Failed to load resource"
# A policy's violations are events of the document, which a page sees even if nothing is written anywhere.
_COLLECT_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


class Console:
    """A signed-in page. `complaints` are errors of its console, exceptions, and violations of the policy."""

    def __init__(self, browser: Browser, url: str, key: str | None) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(
            viewport=WIDE, reduced_motion="reduce", timezone_id="UTC", locale="en-GB"
        )
        self.context.set_default_timeout(WAIT_MS)
        self.context.add_init_script(_COLLECT_VIOLATIONS)
        self.complaints: list[str] = []
        self.context.on("page", self._watch)
        if key is not None:
            self.sign_in(key)
        self.page: Page = self.context.new_page()

    def sign_in(self, key: str) -> None:
        """Open a session, as the page does."""
        answer = self.context.request.post(
            f"{self.url}/console/session", data={"key": key}, headers={"ledger-console": "1"}
        )
        assert answer.ok, answer.text()

    def open_view(self, path: str) -> Page:
        """Go to a URL of the console, such as "disputes?status=lost", and wait until its view is drawn."""
        self.page.goto(f"{self.url}/console/{path}")
        self.wait_until_drawn()
        return self.page

    def wait_until_drawn(self) -> None:
        """Wait for the view's heading, and until nothing says that it is still loading."""
        self.page.wait_for_selector("h1")
        # By a selector: a function that is polled would be evaluated in the page, which its policy forbids.
        self.page.wait_for_selector("main .loading", state="detached")

    def check_policy(self) -> None:
        """Assert that nothing complained so far."""
        violations = [] if self.page.is_closed() else self.page.evaluate("window.violations ?? []")
        assert not [*self.complaints, *violations], [*self.complaints, *violations]

    def close(self) -> None:
        """Close the page and forget its session."""
        self.context.close()

    def _watch(self, page: Page) -> None:
        page.on("console", self._note_message)
        page.on("pageerror", self._note_error)
        page.on("response", self._note_file)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_FAILED_ANSWER):
            self.complaints.append(message.text)

    def _note_error(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _note_file(self, response: Response) -> None:
        path = urlsplit(response.url).path
        if path.startswith("/console/static/") and response.status >= 400:
            self.complaints.append(f"{response.status} {path}")


def check_accessible(page: Page, **options: Any) -> None:
    """Assert that axe finds nothing serious or critical on the page; `options` are those of `axe.run`.

    Without axe nothing is asserted: a test of `test_views` is skipped then, and says so."""
    if not AXE.is_file():
        return
    if not page.evaluate("'axe' in window"):
        # By the protocol of the browser, which no policy of the page concerns.
        page.evaluate(AXE.read_text())
    found: Any = page.evaluate(
        "(options) => axe.run(document, options)", {"resultTypes": ["violations"], **options}
    )
    serious = [
        f"{each['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]
    assert not serious, "\n".join(serious)


def check_contrast(page: Page) -> None:
    """Assert that each text can be read, all that a theme can change; an eighth of the time of the whole."""
    check_accessible(page, runOnly=["color-contrast"])


def check_width(page: Page) -> None:
    """Assert that nothing of the page scrolls sideways."""
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1], f"{page.url} is {widths[0]} pixels wide on a page of {widths[1]}"


def check_tables(page: Page) -> None:
    """Assert that no table is cut off: on a wide page each one is seen whole."""
    page.set_viewport_size(WIDE)
    cut = page.evaluate(
        "[...document.querySelectorAll('.table-box')].filter((box) => box.scrollWidth > box.clientWidth)"
        ".map((box) => box.getAttribute('aria-label'))"
    )
    assert not cut, f"{page.url} cuts off {cut}"


def take_picture(page: Page, name: str) -> None:
    """Write a picture into the folder LEDGER_PICTURES, if it is set. `docs` stands for the pictures that
    docs/console.md shows, and no others (`make console-pictures`)."""
    folder = os.environ.get("LEDGER_PICTURES")
    if folder == "docs":
        if f"/{name}.png)" in (ROOT / "docs" / "console.md").read_text():
            page.screenshot(path=PICTURES / f"{name}.png")
    elif folder:
        page.screenshot(path=Path(folder) / f"{name}.png")

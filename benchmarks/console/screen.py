"""How soon the console's view of events shows what a POST recorded, and how it bears a flood of events.

A page in Chromium notes when the id of a new object gets into its document, by the machine's one clock.
Without Chromium there are no figures.
"""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import quantiles
from typing import Any, Protocol

from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, figure
from benchmarks.service import Service

GROUP = "events on the screen"
GOAL_MS = Goal(1000, is_maximum=True)
POSTS = 100
PAUSE_SECONDS = 0.03
FLOOD = 10_000
WAIT_MS = 60_000
ROWS_MAX = 500
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# An id is seen where it is drawn; what is drawn is on the screen with the next frame.
_NOTE_IDS = """
window.seen = {};
window.blocked = [];
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) window.blocked.push(duration);
}).observe({ type: "longtask" });
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver((changes) => requestAnimationFrame(() => {
    const at = (performance.timeOrigin + performance.now()) / 1000;
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        for (const link of node.querySelectorAll?.("a.id") ?? []) window.seen[link.textContent] ??= at;
      }
    }
  })).observe(document.body, { childList: true, subtree: true });
});
"""
_COUNT_ROWS = "document.querySelectorAll('tbody tr').length"
_HEAP_MB = "performance.memory.usedJSHeapSize / 1e6"


class Ground(Protocol):
    """A running service, and a key of an account with every scope."""

    @property
    def service(self) -> Service: ...
    @property
    def key(self) -> str: ...


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """From the beginning of each POST until what it made is drawn; then a flood."""
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        return []
    with _open_page(executable, ground) as page:
        latencies = [_time_post(ground, page, number) for number in range(POSTS)]
        figures = _describe(latencies)
        return figures + _measure_flood(ground, page)


@contextmanager
def _open_page(executable: str, ground: Ground) -> Iterator[Any]:
    """A page of the view, signed in and live."""
    from playwright.sync_api import sync_playwright

    url = f"http://127.0.0.1:{ground.service.port}/console"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-precise-memory-info"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        try:
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            context.add_init_script(_NOTE_IDS)
            context.request.post(f"{url}/session", data={"key": ground.key}, headers={"ledger-console": "1"})
            page = context.new_page()
            page.goto(f"{url}/events")
            page.wait_for_selector(".badge-ok", timeout=WAIT_MS)
            yield page
        finally:
            browser.close()


def _time_post(ground: Ground, page: Any, number: int) -> float:
    """Milliseconds from before a POST until what it made is drawn."""
    time.sleep(PAUSE_SECONDS)
    started = time.time()
    made = ground.service.create("/v1/customers", {"name": f"Customer {number}"})["id"]
    return (_wait_for(page, made) - started) * 1000


def _wait_for(page: Any, object_id: str) -> float:
    """When the object was drawn, in unix seconds."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while time.monotonic() < deadline:
        at = page.evaluate("(id) => window.seen[id] ?? null", object_id)
        if at is not None:
            return float(at)
        time.sleep(0.005)
    raise RuntimeError(f"{object_id} was not shown in {WAIT_MS / 1000:.0f} s")


def _describe(latencies: list[float]) -> list[Figure]:
    cuts = quantiles(latencies, n=100)
    note = f"{len(latencies)} POSTs, one after the other"
    return [
        figure(GROUP, "from a POST until it is drawn, median", [cuts[49]], "ms", goal=GOAL_MS, note=note),
        figure(GROUP, "from a POST until it is drawn, p99", [cuts[98]], "ms", goal=GOAL_MS, note=note),
    ]


def _measure_flood(ground: Ground, page: Any) -> list[Figure]:
    """Import many customers at once, while the page is live."""
    page.evaluate("window.blocked.length = 0")
    heap_before = page.evaluate(_HEAP_MB)
    started = time.time()
    last = _import_customers(ground)
    imported = time.time()
    drawn = _wait_for(page, last)
    rate = FLOOD / (imported - started)
    note = f"{FLOOD:,} customers imported at {rate:,.0f} a second"
    longest: float = page.evaluate("Math.max(0, ...window.blocked)")
    rows: int = page.evaluate(_COUNT_ROWS)
    if rows > ROWS_MAX:
        raise RuntimeError(f"{rows} rows are on the screen: they are to be bounded")
    heap: float = page.evaluate(_HEAP_MB)
    return [
        figure(GROUP, "after a flood, until the last is drawn", [(drawn - imported) * 1000], "ms", note=note),
        figure(GROUP, "longest time that the page was busy", [longest], "ms", note=note),
        figure(GROUP, "heap of the page", [heap], "MB", note=f"{note}; before it {heap_before:.0f} MB"),
    ]


def _import_customers(ground: Ground) -> str:
    """The id of the last one. Raises RuntimeError if a line is refused."""
    stamp = int(time.time())
    ids = [f"cus_flood{stamp}x{number}" for number in range(FLOOD)]
    lines = (json.dumps({"op": "customer", "id": each, "name": "Flood"}) + "\n" for each in ids)
    headers: Mapping[str, str] = {
        "Authorization": f"Bearer {ground.key}",
        "Content-Type": "application/x-ndjson",
    }
    connection = http.client.HTTPConnection("127.0.0.1", ground.service.port, timeout=WAIT_MS / 1000)
    try:
        connection.request("POST", "/internal/v1/import", "".join(lines).encode(), dict(headers))
        answer = connection.getresponse().read()
    finally:
        connection.close()
    if answer.count(b'"error"'):
        raise RuntimeError(f"an import was refused: {answer[:300]!r}")
    return ids[-1]

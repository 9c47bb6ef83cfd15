"""The bytes of the console's first view: the page, and all that it loads before it shows something."""

from __future__ import annotations

import gzip
import http.client
import re
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from benchmarks.console.ground import Ground
from benchmarks.measurement import Effort
from benchmarks.report import Figure, Goal, figure

GROUP = "bytes of the first view"
PAGE = "/console"
GOAL = Goal(150, is_maximum=True)

# What a browser loads at once; `import()` waits until a view is asked for.
_OF_HTML = re.compile(r"<(?:script|link)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
_OF_SCRIPT = re.compile(
    r"(?:^|;)\s*(?:import|export)\b(?:[^\"';()]*?\bfrom)?\s*[\"'](\.{0,2}/[^\"'\s]+\.js)[\"']", re.MULTILINE
)
_OF_STYLE = re.compile(r"(?:@import\s+|url\()[\"']?([^\"')]+)")


class _Answer(NamedTuple):
    status: int
    kind: str
    sent: int
    text: str


def measure(ground: Ground, effort: Effort) -> list[Figure]:
    """Kilobytes as they are sent. None if this release has no console."""
    first = _fetch(ground.service.port, PAGE)
    if first.status != 200:
        return []
    answers = {PAGE: first}
    waiting = [PAGE]
    while waiting:
        path = waiting.pop()
        for found in _find_references(answers[path]):
            target = urljoin(path if path != PAGE else f"{PAGE}/", found)
            if urlsplit(target).netloc or target in answers:
                continue
            answers[target] = _fetch(ground.service.port, target)
            waiting.append(target)
    missing = [path for path, answer in answers.items() if answer.status != 200]
    if missing:
        raise RuntimeError(f"the page refers to {', '.join(missing)}, which the service does not have")
    size = sum(answer.sent for answer in answers.values()) / 1000
    note = f"{len(answers)} files; the bodies as they are sent, without headers"
    return [figure(GROUP, "first view", [size], "kB", goal=GOAL, note=note)]


def _fetch(port: int, path: str) -> _Answer:
    """The body's bytes as they come, compressed if the service does that, and its text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        response = connection.getresponse()
        sent = response.read()
        is_packed = response.getheader("content-encoding") == "gzip"
        text = ""
        if response.status == 200:
            text = (gzip.decompress(sent) if is_packed else sent).decode(errors="replace")
        return _Answer(response.status, response.getheader("content-type", ""), len(sent), text)
    finally:
        connection.close()


def _find_references(answer: _Answer) -> list[str]:
    if "javascript" in answer.kind:
        return _OF_SCRIPT.findall(answer.text)
    if "css" in answer.kind:
        return [each for each in _OF_STYLE.findall(answer.text) if not each.startswith("data:")]
    return _OF_HTML.findall(answer.text) if "html" in answer.kind else []

"""A headless Chromium that a test drives by the DevTools protocol over a pipe: no driver is needed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT_SECONDS = 60
# Chromium reads commands from its descriptor 3 and writes answers and events to 4.
_WITH_PIPES = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class NavigatedError(Exception):
    """Another page was opened before the answer."""


class Page:
    """One page. `requests` are the URLs it asked for, `complaints` what the console and the policy said."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._unread = b""
        self._number = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        (target,) = [
            each for each in self._call("Target.getTargets")["targetInfos"] if each["type"] == "page"
        ]
        self._session = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)[
            "sessionId"
        ]
        for domain in ("Network", "Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to a URL."""
        self._call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of an expression as soon as it is true, also on a page that a click leads to."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (value := self._try_to_evaluate(expression)):
            assert time.monotonic() < deadline, (expression, self.complaints)
            time.sleep(0.05)
        return value

    def _try_to_evaluate(self, expression: str) -> Any:
        try:
            return self.evaluate(expression)
        except NavigatedError:
            return None

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "target navigated" in answer.get("error", {}).get("message", ""):
                    raise NavigatedError
                assert "error" not in answer, answer
                return answer["result"]
            self._record(answer)

    def _read(self) -> Any:
        while b"\0" not in self._unread:
            read = os.read(self._answers, 1 << 16)
            assert read, "Chromium has ended"
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def _record(self, event: Any) -> None:
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])
            case "Log.entryAdded" if event["params"]["entry"]["level"] in ("warning", "error"):
                self.complaints.append(event["params"]["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(event["params"]["exceptionDetails"]))


@contextlib.contextmanager
def open_chromium(profile: Path) -> Iterator[Page]:
    """A page of a new browser."""
    assert CHROMIUM is not None
    commands_read, commands_write = os.pipe()
    answers_read, answers_write = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable, "-c", _WITH_PIPES, str(commands_read), str(answers_write),
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank",
        ],
        pass_fds=(commands_read, answers_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(commands_read)
    os.close(answers_write)
    try:
        yield Page(commands_write, answers_read)
    finally:
        os.close(commands_write)
        os.close(answers_read)
        process.terminate()
        process.wait(WAIT_SECONDS)

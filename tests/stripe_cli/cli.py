"""The official Stripe CLI, run as its users run it: the pinned program, with a home folder of its own.

It can reach this machine only. What it asks of other machines goes to a proxy that refuses it, and remembers
who was asked (`RefusingProxy`).
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest

from tests.api.service import ROOT

HERE = Path(__file__).parent
INSTALLED = ROOT / ".clients" / "stripe-cli"
PROGRAM = INSTALLED / "node_modules/@stripe/cli-linux-x64/bin/stripe"
RUN_SECONDS = 60.0
WAIT_SECONDS = 60.0
STOP_SECONDS = 10.0


def _find_obstacle() -> str | None:
    """Why the CLI cannot be run here; None if it can."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        return f"the pinned Stripe CLI is for Linux on x86-64, and this is {system} on {machine}"
    stamp = INSTALLED / ".installed"
    if not stamp.exists() or stamp.read_text() != (HERE / "package-lock.json").read_text():
        return "the Stripe CLI is not here, or in another release: make clients (needs npm)"
    return None


OBSTACLE = _find_obstacle()
needs_stripe_cli = pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))


class RefusingProxy:
    """Its address, and the hosts that were asked for through it. It lets nothing pass."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.hosts: set[str] = set()


@contextmanager
def run_refusing_proxy() -> Iterator[RefusingProxy]:
    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            proxy.hosts.add(self.path)
            self.send_error(502)

        do_GET = do_POST = do_CONNECT  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        proxy = RefusingProxy(server.server_address[1])
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield proxy
        server.shutdown()


class Completed(NamedTuple):
    """How a command ended."""

    status: int
    output: str
    errors: str

    @property
    def answer(self) -> Any:
        """The JSON that it printed."""
        return json.loads(self.output)


class BackgroundCommand:
    """A command that runs until it is stopped: `listen`, `logs tail`. Its lines, as they came so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output: list[str] = []
        self.errors: list[str] = []
        self._changed = threading.Condition()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((process.stdout, self.output), (process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def find(self, pattern: str) -> list[re.Match[str]]:
        """The matches in its lines so far, of both streams: those of standard output first."""
        searched = [re.search(pattern, line) for line in (*self.output, *self.errors)]
        return [match for match in searched if match is not None]

    def wait_for(self, pattern: str, count: int = 1, *, seconds: float = WAIT_SECONDS) -> list[re.Match[str]]:
        """The matches once there are `count` lines with one."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: len(self.find(pattern)) >= count or not self._is_reading, timeout=seconds
            )
            found = self.find(pattern)
        assert came, (pattern, count, self.output[-20:], self.errors[-20:])
        assert len(found) >= count, (pattern, count, self.output[-20:], self.errors[-20:])
        return found

    @property
    def _is_reading(self) -> bool:
        return any(reader.is_alive() for reader in self._readers)

    def wait(self, seconds: float = WAIT_SECONDS) -> Completed:
        """How it ended by itself."""
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(STOP_SECONDS)
        return Completed(status, "\n".join(self.output), "\n".join(self.errors))

    def stop(self) -> Completed:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.wait(STOP_SECONDS)


class Listener(BackgroundCommand):
    """`stripe listen`, connected."""

    @property
    def secret(self) -> str:
        """The signing secret that it printed."""
        return self.wait_for(r"whsec_\w+")[0][0]


class StripeCli:
    """The CLI of one person: home folder, key, and address of the service; more variables in `settings`."""

    def __init__(
        self, home: Path, url: str, key: str, proxy: RefusingProxy, settings: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        self.url = url
        self.key = key
        self.proxy = proxy
        self.settings = settings or {}

    def run(self, *arguments: str, stdin: str = "", **settings: str) -> Completed:
        """Run one command to its end. `settings`: environment variables, empty ones are left out. It collects
        no garbage: that takes a third of the processor time of a command that ends at once."""
        completed = subprocess.run(
            self.build_command(arguments),
            input=stdin,
            capture_output=True,
            text=True,
            env=self.build_environment({"GOGC": "off", **settings}),
            cwd=self.home,
            timeout=RUN_SECONDS,
            check=False,
        )
        return Completed(completed.returncode, completed.stdout, completed.stderr)

    def call(self, *arguments: str, **settings: str) -> Any:
        """What a command prints that the service must answer with an object or list."""
        completed = self.run(*arguments, **settings)
        assert completed.status == 0, completed
        answer = completed.answer
        assert "error" not in answer, completed
        return answer

    @contextmanager
    def start(self, *arguments: str, **settings: str) -> Iterator[BackgroundCommand]:
        """A command in the background, ended when the block ends."""
        with self._start(arguments, settings) as process:
            yield BackgroundCommand(process)

    @contextmanager
    def listen(self, *arguments: str, **settings: str) -> Iterator[Listener]:
        """`stripe listen`, once it is ready: all snapshot events, unless `arguments` choose others."""
        chosen = any(word.startswith(("--events", "-e", "--all-")) for word in arguments)
        choice = () if chosen else ("--all-snapshot",)
        with self._start(("listen", "-s", *choice, *arguments), settings) as process:
            listener = Listener(process)
            listener.wait_for("Ready!")
            yield listener

    @contextmanager
    def _start(self, arguments: Sequence[str], settings: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            self.build_command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.build_environment(settings),
            cwd=self.home,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def build_command(self, arguments: Sequence[str]) -> list[str]:
        """The command line. The address comes first: `config --set` would take it for a value."""
        base = ("--api-base", self.url) if self.url else ()
        return [str(PROGRAM), *base, *arguments]

    def build_environment(self, settings: dict[str, str]) -> dict[str, str]:
        """The whole environment; an empty setting is left out."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "STRIPE_API_KEY": self.key,
            "STRIPE_CLI_TELEMETRY_OPTOUT": "1",
            "DO_NOT_TRACK": "1",
            "HTTP_PROXY": self.proxy.url,
            "HTTPS_PROXY": self.proxy.url,
            **self.settings,
            **settings,
        }
        return {name: value for name, value in environment.items() if value}

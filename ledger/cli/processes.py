"""Processes of ours: children watched over, who end with their parent, and how each collects garbage."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from ledger.config import Settings

RESTART_PAUSE_SECONDS = 1.0
GC_THRESHOLD_OBJECTS = 10_000


class Supervisor:
    """Child processes, started again when they die, ended together."""

    def __init__(
        self, commands: Sequence[Sequence[str]], environment: Mapping[str, str], listen_fd: int
    ) -> None:
        self._commands = commands
        self._environment = os.environ | environment
        self._listen_fd = listen_fd
        self._stopping = False

    def run(self, settings: Settings) -> None:
        """Until SIGTERM or SIGINT; a child that does not end in time is killed."""
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, self._request_stop)
        children = {self._start(command): command for command in self._commands}
        while not self._stopping:
            time.sleep(0.1)
            for child in [child for child in children if child.poll() is not None]:
                command = children.pop(child)
                time.sleep(RESTART_PAUSE_SECONDS)
                if not self._stopping:
                    children[self._start(command)] = command
        for child in children:
            child.terminate()
        deadline = time.monotonic() + settings.drain_seconds + 1
        for child in children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        # A session of its own: a Ctrl-C reaches this process alone, which then ends them in order.
        return subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.PIPE,
            pass_fds=[self._listen_fd],
            start_new_session=True,
        )

    def _request_stop(self, *_: object) -> None:
        self._stopping = True


def exit_with_parent() -> None:
    """Stop once the process that started this one is gone, however it died: the kernel then closes its
    end of our input. A child left behind would hold the port, and the next `serve` could not start."""

    def wait_for_parent_exit() -> None:
        # Not sys.stdin: the interpreter cannot end while a thread waits in its buffer.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_parent_exit, name="parent", daemon=True).start()


def reduce_garbage_collection() -> None:
    """Look for garbage cycles less often than every 700 objects, and never among the modules. Aggregates are
    remembered for long and hold no cycles: looking through them took a fifth of an import."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 10)

"""The processes of one service: a supervisor and its children, and how each collects garbage."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ledger.config import Settings

LEDGER_PROGRAM = (sys.executable, "-P", "-m", "ledger")
"""Starts this program again. Without -P, a folder `ledger` in the working directory would be imported
instead."""

RESTART_PAUSE_SECONDS = 1.0
GC_THRESHOLD_OBJECTS = 10_000


class Supervisor:
    """Runs child processes: restarts one that dies, and ends all of them when it ends.

    `commands` are arguments of `ledger`, one child each; the children inherit the descriptors
    `inherited_fds`.
    """

    def __init__(
        self, commands: Sequence[Sequence[str]], environment: Mapping[str, str], inherited_fds: Sequence[int]
    ) -> None:
        self._commands = [(*LEDGER_PROGRAM, *arguments) for arguments in commands]
        self._environment = os.environ | environment
        self._inherited_fds = inherited_fds
        self._stopping = False

    def run(self, settings: Settings, forget: Callable[[int], None]) -> None:
        """Run until SIGTERM or SIGINT, then end the children; kill those that do not end in time. `forget`
        is called with the process id of each child that died before."""
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, self._request_stop)
        children = {self._start(command): command for command in self._commands}
        while not self._stopping:
            time.sleep(0.1)
            for child in [child for child in children if child.poll() is not None]:
                command = children.pop(child)
                forget(child.pid)
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
        # In a session of its own, a child does not get the Ctrl-C: this process ends its children in order.
        return subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.PIPE,
            pass_fds=self._inherited_fds,
            start_new_session=True,
        )

    def _request_stop(self, *_: object) -> None:
        self._stopping = True


def exit_with_parent() -> None:
    """Stop when the parent process ends, however it ends: the kernel then closes its end of our standard
    input. A child that stayed would hold the port, and the next `serve` could not start."""

    def wait_for_parent_exit() -> None:
        # Not sys.stdin: the interpreter cannot exit while a thread waits in its buffer.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_parent_exit, name="parent", daemon=True).start()


def reduce_garbage_collection() -> None:
    """Search for garbage cycles less often than Python's default, every 700 objects, and never among what is
    loaded now. Cached aggregates live long and have no cycles: searching them took a fifth of the time of an
    import."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 10)

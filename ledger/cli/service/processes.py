"""The processes of one service: a supervisor and its children, and how each collects garbage."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

import structlog

RESTART_PAUSE_SECONDS = 1.0
END_POLL_SECONDS = 0.01
GC_THRESHOLD_OBJECTS = 10_000

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

log = structlog.get_logger()


class Task(NamedTuple):
    """The work of one child process.

    name           of the process, in `ps -o comm` and `top`: 15 bytes at most
    run            works until SIGTERM
    ends_last      whether it gets SIGTERM only when all others have ended: their last requests need it
    inherited_fds  the descriptors that it inherits. A listening socket that another process holds too keeps
                   the port, and takes connections that nobody answers
    """

    name: str
    run: Callable[[], None]
    ends_last: bool = False
    inherited_fds: Collection[int] = ()


class _Child(NamedTuple):
    task: Task
    started_at: float


class Supervisor:
    """Runs each task in a child process: restarts one that dies, and ends all of them when it ends.

    The children are forked from this process, so they start in milliseconds with the modules that are
    imported here, and share their memory. For that no thread and no event loop may run in it. As with
    `subprocess`, a child inherits no descriptor but the standard streams and those of its task.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._children: dict[int, _Child] = {}
        self._ending = False
        # The kernel closes the write end when this process ends, however it ends.
        self._parent_read_fd, self._parent_write_fd = os.pipe()

    def run(
        self, *, end_seconds: float, stop_listening: Callable[[], None], forget: Callable[[int], None]
    ) -> None:
        """Run until SIGTERM or SIGINT, then end the children within `end_seconds`; kill those that take
        longer.

        stop_listening  is called before the children end, to close what this process holds for them: new
                        connections are then refused, and do not wait for a child that will not accept them
        forget          is called with the process id of each child that died before
        """
        for number in _SIGNALS:
            signal.signal(number, _ignore)
        # Only sigwait receives a signal: none can be lost between a fork and what the child does first.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        freeze_garbage()
        for task in self._tasks:
            self._start(task)
        while signal.sigwait(_SIGNALS) == signal.SIGCHLD:
            for pid, child in self._collect_ended():
                forget(pid)
                # At once, for new connections wait for it; but not again and again.
                if time.monotonic() - child.started_at < RESTART_PAUSE_SECONDS:
                    time.sleep(RESTART_PAUSE_SECONDS)
                self._start(child.task)
        self._ending = True
        stop_listening()
        self._end_children(time.monotonic() + end_seconds)

    def _start(self, task: Task) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._run_in_child(task)
        self._children[pid] = _Child(task, time.monotonic())

    def _run_in_child(self, task: Task) -> NoReturn:
        """Run the task and end: nothing of what this process would do afterwards is the child's to do."""
        status = 1
        try:
            # In a session of its own, a child does not get the Ctrl-C: the supervisor ends them in order.
            os.setsid()
            _name_process(task.name)
            _close_descriptors_except({0, 1, 2, self._parent_read_fd, *task.inherited_fds})
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            exit_with_parent(self._parent_read_fd)
            task.run()
            status = 0
        except BaseException as error:
            log.critical("process_failed", process=task.name, exc_info=error)
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _collect_ended(self) -> list[tuple[int, _Child]]:
        """The children that have ended. Not any child of this process: the database server is one, too."""
        statuses = [os.waitpid(pid, os.WNOHANG) for pid in self._children]
        return [(pid, self._forget_child(pid, status)) for pid, status in statuses if pid]

    def _forget_child(self, pid: int, status: int) -> _Child:
        child, exit_code = self._children.pop(pid), os.waitstatus_to_exitcode(status)
        if not self._ending:
            reason = signal.Signals(-exit_code).name if exit_code < 0 else f"exit status {exit_code}"
            log.error("process_died", process=child.task.name, process_id=pid, reason=reason)
        return child

    def _end_children(self, deadline: float) -> None:
        for ends_last in (False, True):
            for pid, child in self._children.items():
                if child.task.ends_last is ends_last:
                    os.kill(pid, signal.SIGTERM)
            while any(child.task.ends_last is ends_last for child in self._children.values()):
                if time.monotonic() > deadline:
                    break
                time.sleep(END_POLL_SECONDS)
                self._collect_ended()
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def exit_with_parent(fd: int = 0) -> None:
    """Stop when the parent process ends, however it ends: the kernel then closes its end of the pipe `fd`, by
    default our standard input. A child that stayed would hold the port, and the next `serve` could not
    start."""

    def wait_for_parent_exit() -> None:
        # Not sys.stdin: the interpreter cannot exit while a thread waits in its buffer.
        while os.read(fd, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_parent_exit, name="parent", daemon=True).start()


def reduce_garbage_collection() -> None:
    """Search for garbage cycles less often than Python's default, every 700 objects, and never among what is
    loaded now. Cached aggregates live long and have no cycles: searching them took a fifth of the time of an
    import."""
    freeze_garbage()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 10)


def freeze_garbage() -> None:
    """Never search for garbage cycles among what is loaded now: that would also copy the memory which a
    forked process shares with its parent."""
    gc.collect()
    gc.freeze()


def _ignore(*_: object) -> None:
    """A handler, so that the kernel keeps a blocked signal; SIG_IGN would drop it."""


def _name_process(name: str) -> None:
    """Name this process in `ps -o comm` and `top`, on Linux: its command line is that of its parent."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _close_descriptors_except(kept: set[int]) -> None:
    """Close what a child does not use. It would keep the lock of the data directory, say, when its parent is
    killed, and the next service could not start until it has drained."""
    for fd in map(int, os.listdir("/dev/fd")):
        if fd not in kept:
            with suppress(OSError):  # that of the listing is closed already
                os.close(fd)

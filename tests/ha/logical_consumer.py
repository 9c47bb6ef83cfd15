"""A consumer of the log by logical replication, as a warehouse or a message broker has one: PostgreSQL's own
`pg_recvlogical`, which reads a slot and confirms what it has."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ledger.postgres.binaries import find_wheel_bin_dir
from tests.postgres.standby import Server, wait_until

SLOT = "ledger_out"
_INSERT = re.compile(r"^table ledger\.events: INSERT: notification_id\[bigint\]:(\d+) ", re.MULTILINE)


class Consumer:
    """What came through the slot: `positions` of recorded events, in the order in which they came."""

    def __init__(self, server: Server, file: Path) -> None:
        self._file = file
        program = find_wheel_bin_dir() / "pg_recvlogical"
        options = ["--slot", SLOT, "--start", "--file", "-", "--status-interval", "1"]
        options += ["--fsync-interval", "1", "--no-loop"]  # else it confirms every 10 s
        with file.open("ab") as output:
            self._process = subprocess.Popen(
                [program, "--dbname", server.dsn(), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def positions(self) -> list[int]:
        return [int(position) for position in _INSERT.findall(self._file.read_text(errors="replace"))]

    def wait_for(self, position: int) -> None:
        """Return once the event at this position has come."""
        wait_until(lambda: position in self.positions)

    def stop(self) -> None:
        """End it; the slot stays."""
        self._process.terminate()
        self._process.wait(10)


@contextlib.contextmanager
def run_consumer(server: Server, file: Path) -> Iterator[Consumer]:
    """A consumer that runs until the end of the block, and adds what comes to `file`."""
    consumer = Consumer(server, file)
    try:
        yield consumer
    finally:
        consumer.stop()


def create_slot(server: Server, *, failover: bool) -> None:
    """A slot in the database of the ledger, from the next commit on. `failover`: one that standbys copy, and
    that `synchronized_standby_slots` holds back."""
    server.execute(
        f"SELECT pg_create_logical_replication_slot('{SLOT}', 'test_decoding', failover => {failover})",
        "ledger",
    )

"""Many writers in several processes, one killed in the middle, a reader in yet another: nothing is lost,
doubled or seen out of order (invariants 1 to 3)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.store.follower import digest_of
from tests.store.stores import check_gapless, create_customer, open_store, read_positions

HERE = Path(__file__).parent
SHARED = "cus_shared"
WRITERS = 4
COMMANDS = 60

Acknowledged = list[tuple[int, str, int]]


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that has said it is ready."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def wait_ready(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"


def read_acknowledged(process: subprocess.Popen[str]) -> Acknowledged:
    """What the process acknowledged until it ended; of a killed one only whole lines count."""
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")[:-1]
    process.wait()
    return [(int(position), stream, int(version)) for position, stream, version in map(str.split, lines)]


def test_sixteen_writers_in_four_processes_one_of_them_killed(dsn: str) -> None:
    async def begin() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer(SHARED))

    asyncio.run(begin())
    follower = run("follower.py", dsn)
    wait_ready(follower)
    assert follower.stdin is not None
    assert follower.stdout is not None
    doomed = run("writer.py", dsn, "doomed", WRITERS, 1_000_000, SHARED)
    writers = [run("writer.py", dsn, f"p{n}", WRITERS, COMMANDS, SHARED) for n in range(3)]
    wait_ready(doomed, *writers)
    assert doomed.stdout is not None
    before = "".join(doomed.stdout.readline() for _ in range(40))
    doomed.kill()
    acknowledged = [read_acknowledged(process) for process in writers]
    assert [process.returncode for process in writers] == [0, 0, 0]
    killed = [(int(p), s, int(v)) for p, s, v in map(str.split, before.splitlines())] + read_acknowledged(
        doomed
    )

    log = read_positions(dsn)
    follower.stdin.write(f"{len(log)}\n")
    follower.stdin.close()
    assert follower.stdout.readline().strip() == digest_of(log)
    assert follower.wait() == 0

    check_gapless(log)
    assert [len(lines) for lines in acknowledged] == [WRITERS * (1 + COMMANDS)] * 3
    everything = [line for lines in [*acknowledged, killed] for line in lines]
    assert set(everything) <= set(log)
    assert len(set(everything)) == len(everything)
    # Beyond what was acknowledged there is at most what was under way in the process that was killed.
    unacknowledged = [line for line in log[1:] if line not in set(everything)]
    assert len(unacknowledged) <= WRITERS
    assert all(stream == SHARED or stream.startswith("cus_doomed") for _, stream, _ in unacknowledged)
    assert {process for line in acknowledged for process in line if process[1] == SHARED}

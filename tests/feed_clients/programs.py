"""The examples of a library, as processes that are killed, and what has to hold however they end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.feed_clients.ledger import EQUAL, ConsumerDatabase, RestartableLedger
from tests.feed_clients.network import open_cutting_proxy
from tests.webhooks.receiver import ScriptedResponse, run_receiver

CUTS = 50
KILLS = 3
WAIT_SECONDS = 60
STOP_SECONDS = 15
"""Less than a poll of the feed takes, so that a consumer which waits for its end fails."""
DISPUTES = 8
DISPUTES_OPENED = """
SELECT originator_id FROM ledger.events WHERE topic LIKE 'dispute.opened%%' ORDER BY notification_id
"""


class Program(NamedTuple):
    """An example, ready to be started. `place` is for what it prints."""

    command: Sequence[str]
    environment: Mapping[str, str]
    place: Path

    def with_settings(self, **settings: str) -> Program:
        return self._replace(environment={**self.environment, **settings})

    def start(self) -> Process:
        return Process(self)

    def run_to_failure(self) -> str:
        """What it prints before it ends by itself, with an error."""
        process = self.start()
        status = process.wait()
        assert status == 1, process.printed
        return process.printed


class Process:
    """A running example."""

    def __init__(self, program: Program) -> None:
        self._output = program.place / f"output-{time.monotonic_ns()}"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                program.command,
                env={"PATH": os.environ["PATH"], **program.environment},
                cwd=program.place,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def printed(self) -> str:
        return self._output.read_text()

    def wait(self) -> int:
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM: it ends by itself, after the batch that it applies."""
        assert self._process.poll() is None, self.printed
        self._process.terminate()
        assert self.wait() == 0, self.printed

    def check(self) -> None:
        assert self._process.poll() is None, self.printed


@contextlib.contextmanager
def run(*programs: Program) -> Iterator[list[Process]]:
    """Processes that are killed at the end, if they still run. A test may replace them in the list."""
    processes = [program.start() for program in programs]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def wait_for(condition: Callable[[], bool], *processes: Process) -> None:
    """Wait until it holds, while these processes run."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        for process in processes:
            process.check()
        assert time.monotonic() < deadline, [process.printed[-2000:] for process in processes]
        time.sleep(0.02)


def advance(database: ConsumerDatabase, events: int, processes: Sequence[Process]) -> None:
    """Wait until so many more events are applied."""
    goal = database.read_position() + events
    wait_for(lambda: database.read_position() >= goal, *processes)


def check_that_failures_lose_and_double_nothing(
    program: Program,
    ledger: RestartableLedger,
    database: ConsumerDatabase,
    *,
    instances: int = 1,
    cuts: int = CUTS,
) -> None:
    """While events are appended, connections are cut, consumers killed, their database connections ended, and
    the service restarted. Then what was applied is the log, and a signal ends the consumers."""
    chance = random.Random(database.url)
    with open_cutting_proxy(ledger.service.port, cuts, seed=chance.randrange(1000)) as (url, proxy):
        program = program.with_settings(API_URL=url)
        with run(*[program] * instances) as processes:
            with ledger.append_meanwhile():
                for _ in range(KILLS):
                    advance(database, chance.randint(1, 100), processes)
                    killed = chance.randrange(instances)
                    processes[killed].kill()
                    processes[killed] = program.start()
                advance(database, chance.randint(1, 100), processes)
                database.end_connections()
                advance(database, chance.randint(1, 100), processes)
                ledger.restart()
                proxy.port = ledger.service.port
                wait_for(lambda: proxy.cuts_left == 0, *processes)
            head = ledger.read_head()
            wait_for(lambda: database.read_position() == head, *processes)
            for process in processes:
                process.stop()
    assert database.compare() == EQUAL


def check_that_instances_may_start_at_once(
    program: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    """Neither ends because the other has just created a table."""
    with run(program, program) as processes:
        with database.hold_tables():
            wait_for(lambda: database.count_waiting() == 2, *processes)
        wait_for(lambda: database.read_position() == ledger.read_head(), *processes)
        for process in processes:
            process.stop()


def check_that_a_wrong_address_is_told(program: Program) -> None:
    """It tries again, as the address may be right later, but not without a word."""
    with socket.socket() as held:  # a port on which nobody listens
        held.bind(("127.0.0.1", 0))
        wrong = program.with_settings(API_URL=f"http://127.0.0.1:{held.getsockname()[1]}")
        with run(wrong) as (process,):
            wait_for(lambda: "the feed was interrupted after position 0" in process.printed, process)
            process.stop()


def check_that_only_what_follows_the_locked_position_is_applied(
    program: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    """A consumer waits for the instance that holds the position, and leaves out what that one has applied."""
    with run(program) as (process,):
        wait_for(lambda: database.read_position() == ledger.read_head(), process)
        before = ledger.read_head()
        with database.hold_position() as move:
            for name in ("Ada", "Bo", "Cy"):
                ledger.post("/v1/customers", {"name": name})
            head = ledger.read_head()
            wait_for(database.is_waited_for, process)
            move(head - 1)
        wait_for(lambda: database.read_position() == head, process)
        process.stop()
    applied = database.read("SELECT position FROM applied_events WHERE position > %s", before)
    assert applied == [(head,)]


def check_that_a_refused_key_ends_it_with_the_service_s_words(
    program: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    """A key without the scope, and one that there is not."""
    for key, message in ((ledger.account.secret, "403"), ("rk_test_unknown", "401")):
        printed = program.with_settings(API_FEED_KEY=key).run_to_failure()
        assert "KeyRefused" in printed
        assert f"(status {message})" in printed
        assert key not in printed
    assert database.read_position() == 0


def check_that_a_replaced_log_ends_it_and_changes_nothing(
    program: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    """A ledger restored from an older backup has lost the end of its log, or went on with other events."""
    ledger.post("/v1/customers", {"name": "Ada"})
    head = ledger.read_head()
    with run(program) as (process,):
        wait_for(lambda: database.read_position() == head, process)
        process.stop()

    database.read("UPDATE ledger_feed_positions SET position = position + 7, last_item = NULL")
    printed = program.run_to_failure()
    assert "PositionFromTheFuture" in printed
    assert "restored from an older backup" in printed
    assert database.read_position() == head + 7

    last = {"position": head, "object": "cus_lost", "version": 1}
    database.read(
        f"UPDATE ledger_feed_positions SET position = {head}, last_item = %s::jsonb", json.dumps(last)
    )
    printed = program.run_to_failure()
    assert "LedgerChanged" in printed
    assert f"cus_lost version 1 (position {head})" in printed
    assert database.read_position() == head
    assert database.compare() == EQUAL


def check_that_another_filter_ends_it(
    program: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    """What a new filter passes besides would never be applied."""
    with run(program) as (process,):
        wait_for(lambda: database.read_position() == ledger.read_head(), process)
        process.stop()
    database.read("""UPDATE ledger_feed_positions SET filter = '{"types": "charge.captured"}'""")
    printed = program.run_to_failure()
    assert "FilterChanged" in printed
    assert '{"types": "charge.captured"}, not {}' in printed
    # Before the first position that is nothing, as after a filter that the service has refused.
    database.read("UPDATE ledger_feed_positions SET position = 0, last_item = NULL")
    with run(program) as (process,):
        wait_for(lambda: database.read_position() == ledger.read_head(), process)
        process.stop()


def check_that_the_inbox_tells_another_system_of_each_dispute(
    program: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    """At least once, in order, and always under the same idempotency key, although the other system fails
    after it has taken a notice, and the consumer is killed."""
    for _ in range(DISPUTES):
        ledger.open_dispute()
    with run_receiver() as receiver:
        receiver.scripts["/notices"] = [ScriptedResponse(status) for status in (200, 503, 200, 500, 200)]

        def list_notices() -> dict[str, str]:
            """The disputes by idempotency key, in the order in which they came first."""
            requests = receiver.requests_to("/notices")
            return {
                request.headers["idempotency-key"]: json.loads(request.body)["dispute"]
                for request in requests
            }

        program = program.with_settings(
            NOTICE_URL=receiver.url("/notices"), API_FEED_KEY=ledger.account_feed_key
        )
        with run(program) as processes:
            for notices in (2, 5):
                wait_for(lambda notices=notices: len(list_notices()) >= notices, *processes)  # type: ignore[misc]
                processes[0].kill()
                processes[0] = program.start()
            ledger.open_dispute()
            wait_for(lambda: len(list_notices()) > DISPUTES, *processes)
            wait_for(lambda: database.read("SELECT count(*) FROM ledger_feed_inbox") == [(0,)], *processes)
            processes[0].stop()
        expected = [dispute for (dispute,) in database.read(DISPUTES_OPENED)]
        assert list(list_notices().values()) == expected
        assert len(receiver.requests_to("/notices")) > len(expected)

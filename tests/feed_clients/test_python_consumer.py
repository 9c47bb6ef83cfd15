"""The Python library's examples, against a real service: what they apply is the log, whatever fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.api.service import ROOT
from tests.feed_clients import programs
from tests.feed_clients.ledger import ConsumerDatabase, RestartableLedger
from tests.feed_clients.programs import Program

LIBRARY = ROOT / "clients" / "python" / "ledger_feed"


def make_program(name: str, ledger: RestartableLedger, database: ConsumerDatabase, place: Path) -> Program:
    settings = {
        "PYTHONPATH": str(LIBRARY / "src"),
        "API_URL": ledger.service.url,
        "API_FEED_KEY": ledger.feed_key,
        "DATABASE_URL": database.url,
    }
    return Program([sys.executable, str(LIBRARY / "examples" / f"{name}.py")], settings, place)


@pytest.fixture
def event_counts(ledger: RestartableLedger, database: ConsumerDatabase, tmp_path: Path) -> Program:
    return make_program("event_counts", ledger, database, tmp_path)


@pytest.mark.parametrize("transport", ["ndjson", "sse"])
def test_fifty_cuts_three_kills_and_a_restart_lose_and_double_nothing(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase, transport: str
) -> None:
    program = event_counts.with_settings(FEED_TRANSPORT=transport)
    programs.check_that_failures_lose_and_double_nothing(program, ledger, database)


def test_two_instances_of_a_consumer_apply_each_event_once(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_failures_lose_and_double_nothing(event_counts, ledger, database, instances=2, cuts=10)


def test_two_instances_may_start_at_once(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_instances_may_start_at_once(event_counts, ledger, database)


def test_a_consumer_applies_only_what_follows_the_locked_position(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_only_what_follows_the_locked_position_is_applied(event_counts, ledger, database)


def test_a_wrong_address_is_told_and_tried_again(event_counts: Program) -> None:
    programs.check_that_a_wrong_address_is_told(event_counts)


def test_a_refused_key_ends_a_consumer_with_the_service_s_words(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_a_refused_key_ends_it_with_the_service_s_words(event_counts, ledger, database)


def test_a_replaced_log_ends_a_consumer_and_changes_nothing(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_a_replaced_log_ends_it_and_changes_nothing(event_counts, ledger, database)


def test_another_filter_ends_a_consumer(
    event_counts: Program, ledger: RestartableLedger, database: ConsumerDatabase
) -> None:
    programs.check_that_another_filter_ends_it(event_counts, ledger, database)


def test_the_inbox_tells_another_system_of_each_dispute(
    ledger: RestartableLedger, database: ConsumerDatabase, tmp_path: Path
) -> None:
    program = make_program("dispute_notices", ledger, database, tmp_path)
    programs.check_that_the_inbox_tells_another_system_of_each_dispute(program, ledger, database)

"""The fifteen questions of docs/analysis.md: SQL gives the answers that follow from the public API."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
import pytest

from projections.read_models.catalog import PROJECTIONS
from tests.analysis.answers import Answers
from tests.analysis.business import Business
from tests.api.conftest import check_log, check_money
from tests.api.service import Registrar, Service
from tests.conftest import Cluster
from tests.webhooks.receiver import run_receiver

PAGE = Path(__file__).resolve().parents[2] / "docs" / "analysis.md"
LOGIN = "analyst_of_questions"
KEPT = """
SELECT count(*) FROM (SELECT FROM projections.checkpoints GROUP BY projection HAVING count(*) > 1) AS kept"""


class Analyst:
    """Asks the questions of the page as a user that its recipe creates; `now` stands for the time it is."""

    def __init__(self, conn: psycopg.Connection[Any], business: Business, now: float) -> None:
        self._conn = conn
        moment = datetime.fromtimestamp(business.moment, UTC)
        self._values = {
            "acct_1": business.account.id,
            "du_1": business.disputed,
            "cus_1": business.changed,
            "key_1": business.key_id,
            "2026-11-20 12:00Z": moment.isoformat(),
            "now()": f"timestamptz '{datetime.fromtimestamp(now, UTC).isoformat()}'",
        }
        self.questions = parse_questions()

    def ask(self, number: int, part: int = 0) -> list[Any]:
        query = self.questions[number][part]
        for name, value in self._values.items():
            query = query.replace(name, value)
        return self._conn.execute(query.encode()).fetchall()


def parse_questions() -> dict[int, list[str]]:
    """The SQL under each numbered heading of the page."""
    sections = re.findall(r"^## (\d+)\. (.*?)(?=^## |\Z)", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {int(number): re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL) for number, text in sections}


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[Service]:
    """One that tries deliveries again soon, two at once: the receiver refuses no connection."""
    settings = {
        "LEDGER_WEBHOOK_RETRY_SECONDS_TEST": "1",
        "LEDGER_WEBHOOK_POLL_MS": "50",
        "LEDGER_WEBHOOK_ATTEMPTS_MAX": "2",
    }
    with cluster.create_database() as dsn, TemporaryDirectory() as directory:
        service = Service(dsn, Path(directory), **settings)
        yield service
        service.stop()
        check_log(service.log)
        check_money(dsn)


@pytest.fixture(scope="module")
def answers(service: Service) -> Iterator[Answers]:
    """After the business of an account."""
    registrar = Registrar(service.dsn)
    with httpx.Client(base_url=service.url, timeout=30) as http, run_receiver() as receiver:
        business = Business(service, http, registrar)
        business.run(receiver)
        registrar.close()
        yield Answers(business, receiver, time.time())


@pytest.fixture(scope="module")
def login(service: Service, cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the user that the page's recipe creates."""
    (recipe,) = re.findall(r"```sql\n(CREATE ROLE.*?)```", PAGE.read_text(), flags=re.DOTALL)
    recipe = recipe.replace("jane", LOGIN).replace("…", "a password")
    with psycopg.connect(service.dsn, autocommit=True) as owner:
        owner.execute(recipe.encode())
        try:
            with psycopg.connect(
                service.dsn, user=LOGIN, password="a password", passfile="", autocommit=True
            ) as conn:
                yield conn
        finally:
            owner.execute(f"DROP ROLE {LOGIN}".encode())


def test_the_page_has_fifteen_questions() -> None:
    assert list(parse_questions()) == list(range(1, 16))
    assert all(parse_questions().values())


@pytest.mark.parametrize("rebuilt", [False, True], ids=["applied", "rebuilt"])
def test_the_questions_have_the_answers_of_the_api(
    service: Service, answers: Answers, login: psycopg.Connection[Any], rebuilt: bool
) -> None:
    if rebuilt:
        service.run_command("projections", "rebuild", "--all")
        with psycopg.connect(service.dsn) as conn:
            assert conn.execute(KEPT.encode()).fetchone() == (len(PROJECTIONS),)
    analyst = Analyst(login, answers.business, answers.now)
    expected = {
        1: answers.volume(), 2: answers.dispute_rate(), 4: answers.held(), 5: answers.due(),
        6: answers.top_customers(), 9: answers.fees(), 10: answers.balances(), 11: answers.books(),
        12: answers.events_a_day(), 14: answers.deliveries(), 15: answers.brands(),
    }  # fmt: skip
    for number, rows in expected.items():
        assert rows, number
        assert analyst.ask(number) == rows, number
    for (*exact, to_evidence, to_decision), row in zip(analyst.ask(3), answers.win_rate(), strict=True):
        assert tuple(exact) == row[:4]
        for hours, of_whole_seconds in ((to_evidence, row[4]), (to_decision, row[5])):
            assert (hours is None) == (of_whole_seconds is None)
            assert abs(float(hours or 0) - (of_whole_seconds or 0)) < 0.051
    check_history(analyst, answers)
    check_changes(analyst, answers)


def check_history(analyst: Analyst, answers: Answers) -> None:
    """Questions 7 and 8: one dispute, staged, submitted and won."""
    dispute = answers.business.disputed
    events = [event for event in answers.events_of(dispute) if "funds" not in event.type]
    rows = analyst.ask(7)
    assert [row[3] for row in rows] == [event.data.object["status"] for event in events]
    assert [row[8] for row in rows if row[8]] == [each.request.id for each in events if each.request.id]
    (shown,) = (each for each in answers.disputes if each.id == dispute)
    moved = [(each.amount, each.fee, each.currency) for each in shown.balance_transactions]
    assert [row[4:7] for row in rows if row[4] is not None] == moved
    assert analyst.ask(8) == [("needs_response", moved[0][0], "dispute.evidence_staged")]


def check_changes(analyst: Analyst, answers: Answers) -> None:
    """Question 13: what changed one customer, and what one key did on one day."""
    business = answers.business
    rows = analyst.ask(13)
    assert [row[1:4] for row in rows] == [
        ("customer.created", business.key_id, "test"),
        ("customer.updated", business.key_id, "test"),
    ]
    requests = [event.request for event in answers.events_of(business.changed)]
    assert [row[4:6] for row in rows] == [(each.id, each.idempotency_key) for each in requests]
    a_day = {topic: (changes, objects) for topic, changes, objects in analyst.ask(13, part=1)}
    assert a_day["customer.created"] == a_day["customer.updated"] == (1, 1)
    assert a_day["dispute.conceded"] == (1, 1)

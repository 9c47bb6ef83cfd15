"""The rules, from readings to conditions, and the steps from conditions to alerts."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.alerts.conditions import Condition, Judgement, Severity, describe_remedy
from ledger.alerts.obstacles import Obstacles
from ledger.alerts.readings import ENDPOINTS_MAX, DisputesDue, FanOutLag, Readings
from ledger.alerts.rules import Limits, judge
from ledger.alerts.transitions import QUIET_SECONDS, LastingAlert, decide_transitions
from ledger.metrics.backlogs import ErasureProgress, FailingEndpoint, Lag, SealingLag

LIMITS = Limits(stalled_seconds=5, critical_seconds=60, seal_seconds=0.5, endpoint_failures=3)
SEALED = SealingLag(10, 0, 0.0, 0.2, True, None, False)
NOBODY = Obstacles(has_worker=False, has_standby=True, holders={})
IDLE = Obstacles(has_worker=True, has_standby=True, holders={})


def make_readings(seconds: float = 0.0, moved: float = 100.0, **others: Any) -> Readings:
    """What a look finds when `feed` is so many seconds behind and has moved so long ago."""
    lag = Lag("feed", 1, True, 10, 3 if seconds else 0, seconds, 0, 0)
    readings: dict[str, Any] = {
        "now": 1_000.0, "lags": [lag], "moved": {"feed": moved, "fan-out": 100.0, "response": 100.0},
        "fan_out": FanOutLag(10, 0, 0.0), "sealing": SEALED, "obstacles": IDLE, "due": (),
    }  # fmt: skip
    return Readings(**readings | others)


def rate(readings: Readings, *known: str) -> dict[str, Severity]:
    conditions = judge(readings, LIMITS, set(known)).conditions
    return {key: condition.severity for key, condition in conditions.items()}


def test_nothing_is_wrong_with_what_keeps_up() -> None:
    assert rate(make_readings()) == {}


def test_a_projection_that_moves_is_not_stalled_however_far_it_is_behind() -> None:
    assert rate(make_readings(3_600.0, moved=1.0)) == {}
    assert rate(make_readings(4.9)) == {}
    assert rate(make_readings(5.0)) == {"projection_stalled/feed": "warning"}
    assert rate(make_readings(60.0)) == {"projection_stalled/feed": "critical"}


def test_what_is_known_ends_below_half_of_the_limit_only() -> None:
    assert rate(make_readings(3.0), "projection_stalled/feed") == {"projection_stalled/feed": "warning"}
    assert rate(make_readings(2.0), "projection_stalled/feed") == {}


def test_without_a_worker_one_alert_stands_for_all_that_it_would_do() -> None:
    readings = make_readings(6.0, obstacles=NOBODY, absent_seconds=2.0, fan_out=FanOutLag(1, 5, 50.0))
    assert rate(readings) == {"worker_stalled": "warning"}
    assert {"projection_stalled", "fan_out_stalled"} <= judge(readings, LIMITS, set()).held
    # One that has just been restarted is about to connect.
    assert rate(readings._replace(absent_seconds=0.5)) == {}


def test_a_standby_that_is_away_is_named_as_the_cause() -> None:
    readings = make_readings(6.0, obstacles=IDLE._replace(has_standby=False))
    condition = judge(readings, LIMITS, set()).conditions["projection_stalled/feed"]
    assert "No synchronous standby is connected" in condition.cause


@pytest.mark.parametrize(
    ("sealing", "severity"),
    [
        (SEALED._replace(events=2, seconds=5.4, idle_seconds=9.0), None),
        (SEALED._replace(events=2, seconds=5.5, idle_seconds=9.0), "warning"),
        (SEALED._replace(events=2, seconds=70.0, idle_seconds=1.0), None),
        (SEALED._replace(events=2, seconds=70.0, idle_seconds=70.0), "critical"),
        (SEALED._replace(events=2, seconds=70.0, idle_seconds=70.0, is_copy=True), None),
        (SEALED._replace(error="tile 0/3 differs"), "critical"),
        (SEALED._replace(events=-1), "critical"),
    ],
)
def test_unsealed_events_are_wrong_when_nothing_seals_them(
    sealing: SealingLag, severity: Severity | None
) -> None:
    assert rate(make_readings(sealing=sealing)).get("unsealed_events") == severity


def test_an_endpoint_fails_after_some_attempts_and_is_critical_once_something_is_given_up() -> None:
    failing = FailingEndpoint("we_1", "acct_1", True, 900.0, 100.0, 2, 0, 1, 990.0, 500, None)
    assert rate(make_readings(failing_count=1, failing=[failing])) == {}
    assert rate(make_readings(failing_count=1, failing=[failing._replace(attempts=3)])) == {
        "endpoint_failing/we_1": "warning"
    }
    assert rate(make_readings(failing_count=1, failing=[failing._replace(retry_at=1_100.0)])) == {
        "endpoint_failing/we_1": "warning"
    }
    assert rate(make_readings(failing_count=1, failing=[failing._replace(given_up=1)])) == {
        "endpoint_failing/we_1": "critical"
    }


@pytest.mark.parametrize(
    ("status", "error", "cause"),
    [
        (500, None, "Every attempt fails. The last time its answer had status 500."),
        (None, "refused", "Every attempt fails. The last time the connection was refused."),
        (None, "dns", "Every attempt fails. The last time its host's name was not found."),
        (None, "other", "Every attempt fails. The last time there was no answer (other)."),
    ],
)
def test_the_cause_of_a_failing_endpoint_is_a_sentence(
    status: int | None, error: str | None, cause: str
) -> None:
    failing = FailingEndpoint("we_1", "acct_1", True, 900.0, 100.0, 3, 0, 1, 990.0, status, error)
    condition = judge(make_readings(failing_count=1, failing=[failing]), LIMITS, set()).conditions
    assert condition["endpoint_failing/we_1"].cause == cause


def test_what_to_do_about_a_failing_endpoint_is_a_command_with_its_id() -> None:
    action, _ = describe_remedy("endpoint_failing", {"endpoint": "we_1"})
    assert action.endswith("ledger webhooks retry-all --endpoint we_1")


def test_an_erasure_that_does_not_move_for_ten_minutes_names_its_step_and_what_it_waits_for() -> None:
    still = ErasureProgress("prj_1", "rows", "a rebuild is filling feed_g2: it must end first", 599.0)
    assert rate(make_readings(erasures=[still])) == {}
    readings = make_readings(erasures=[still._replace(seconds=600.0)])
    condition = judge(readings, LIMITS, set()).conditions["erasure_stalled/prj_1"]
    assert (condition.severity, condition.cause) == ("warning", still.obstacle)
    assert condition.summary == "The erasure prj_1 does not move: it is in the step rows."
    assert rate(make_readings(erasures=[still._replace(seconds=3600.0)])) == {
        "erasure_stalled/prj_1": "critical"
    }


def test_what_a_look_did_not_see_in_full_does_not_end() -> None:
    held = judge(make_readings(due=None, failing_count=ENDPOINTS_MAX + 1), LIMITS, set()).held
    assert held == {"disputes_due", "endpoint_failing"}


def test_due_dates_are_overdue_by_both_clocks() -> None:
    overdue = {"response": 500_000.0}
    readings = make_readings(overdue_seconds=overdue)
    assert rate(readings) == {"deadlines_overdue/response": "critical"}
    just_moved = {**readings.moved, "response": 1.0}
    assert rate(readings._replace(moved=just_moved)) == {}, "a test has just moved the clock"


def test_disputes_are_critical_by_the_first_that_is_due_very_soon() -> None:
    due = [
        DisputesDue("acct_1", True, 3, 0, 5_000, ["du_1"]),
        DisputesDue("acct_1", False, 2, 1, 4_000, ["du_2"]),
    ]
    assert rate(make_readings(due=due)) == {
        "disputes_due/acct_1/live": "warning", "disputes_due/acct_1/test": "critical",
    }  # fmt: skip


def make_alert(
    severity: Severity = "warning", state: Any = "active", absent: float | None = None
) -> LastingAlert:
    return LastingAlert("alrt_1", "k", "unsealed_events", severity, "s", "c", {}, state, absent)


def decide(
    alert: LastingAlert | None, severity: Severity | None, held: frozenset[Any] = frozenset()
) -> list[str]:
    """The steps when the condition `k` is found so severe, or not found."""
    found = {} if severity is None else {"k": Condition("k", "unsealed_events", severity, "s", "c", {})}
    return [each.step for each in decide_transitions([alert] if alert else [], Judgement(found, held))]


@pytest.mark.parametrize(
    ("alert", "severity", "steps"),
    [
        (None, "warning", ["raise"]),
        (make_alert(), "warning", []),
        (make_alert(), "critical", ["elevate"]),
        (make_alert("critical"), "warning", ["update"]),
        (make_alert(), None, ["note_absent"]),
        (make_alert(absent=QUIET_SECONDS - 0.1), None, []),
        (make_alert(absent=QUIET_SECONDS - 0.1), "warning", ["update"]),
        (make_alert(absent=QUIET_SECONDS), None, ["resolve"]),
        (make_alert(state="cleared"), "warning", []),
        (make_alert(state="cleared"), "critical", ["release", "raise"]),
        (make_alert(state="cleared", absent=QUIET_SECONDS), None, ["release"]),
    ],
)
def test_each_step_of_an_alert(
    alert: LastingAlert | None, severity: Severity | None, steps: list[str]
) -> None:
    assert decide(alert, severity) == steps


def test_an_alert_of_a_kind_that_was_not_looked_at_stays_as_it_is() -> None:
    assert decide(make_alert(absent=QUIET_SECONDS), None, frozenset({"unsealed_events"})) == []

"""What becomes of alerts when a look has found what it has found. Pure.

A condition that is found raises an alert; a greater severity elevates it; not found for QUIET_SECONDS, it
resolves. An operator may clear it (`records.clear_alert`): it then keeps its key while its condition lasts,
so that none is raised again, and only a greater severity raises another one. A severity that falls changes
the alert and makes no event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ledger.alerts.conditions import Condition, Judgement, Severity, is_above

QUIET_SECONDS = 3.0
"""So long must a condition not be found before it counts as ended."""

Step = Literal["raise", "elevate", "update", "note_absent", "resolve", "release"]


class LastingAlert(NamedTuple):
    """An alert whose condition lasts by what is known. `absent_seconds`: for how long it was not found any
    more; None: it was found at the look before."""

    id: str
    key: str
    kind: str
    severity: Severity
    summary: str
    cause: str
    details: Mapping[str, Any]
    state: Literal["active", "cleared"]
    absent_seconds: float | None


class Transition(NamedTuple):
    """One step. `alert`: None when one is raised; `condition`: None when it was not found."""

    step: Step
    alert: LastingAlert | None
    condition: Condition | None


def decide_transitions(lasting: Sequence[LastingAlert], judgement: Judgement) -> list[Transition]:
    """The steps after a look, in the order in which they are to be done."""
    known = {alert.key: alert for alert in lasting}
    steps = [step for alert in lasting for step in _follow(alert, judgement)]
    raised = [condition for key, condition in judgement.conditions.items() if key not in known]
    return steps + [Transition("raise", None, condition) for condition in raised]


def _follow(alert: LastingAlert, judgement: Judgement) -> Iterator[Transition]:
    condition = judgement.conditions.get(alert.key)
    if condition is None:
        if alert.kind in judgement.held:
            return
        if alert.absent_seconds is None:
            yield Transition("note_absent", alert, None)
        elif alert.absent_seconds >= QUIET_SECONDS:
            yield Transition("resolve" if alert.state == "active" else "release", alert, None)
    elif is_above(condition.severity, alert.severity):
        if alert.state == "active":
            yield Transition("elevate", alert, condition)
        else:
            yield Transition("release", alert, None)
            yield Transition("raise", None, condition)
    elif alert.absent_seconds is not None or (alert.state == "active" and _differs(alert, condition)):
        yield Transition("update", alert, condition)


def _differs(alert: LastingAlert, condition: Condition) -> bool:
    was = (alert.severity, alert.summary, alert.cause, alert.details)
    return was != (condition.severity, condition.summary, condition.cause, condition.details)

"""The rules: what readings of the service make of it, with the limits of its operators. No I/O, no clock.

Each rule has two thresholds, so that nothing comes and goes: a condition begins at the whole of its limit,
and one that is known already ends below half of it. Elevation is never undone by a figure that trembles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import NamedTuple

from ledger.alerts.conditions import Condition, Judgement, Kind, Severity
from ledger.alerts.obstacles import Work
from ledger.alerts.readings import ENDPOINTS_MAX, IDS_SHOWN_MAX, OWNERS_MAX, Readings
from ledger.metrics.backlogs import FailingEndpoint, Lag

PROJECTIONS_SHOWN_MAX = 20
ERASURE_STILL_SECONDS = 600.0
"""A step waits for seconds, or for a rebuild that ends by itself."""
ERASURE_STILL_CRITICAL_SECONDS = 3600.0
# A worker that takes the place of another one connects within a second.
WORKER_ABSENT_SECONDS = 1.5
_UNITS = {"response": "disputes", "inquiry": "inquiries", "capture": "uncaptured charges"}


class Limits(NamedTuple):
    """From when on something is wrong.

    stalled_seconds    behind and not moving for so long: a warning …
    critical_seconds   … and for so long: critical
    seal_seconds       least time between two checkpoints, which sealing may always take
    endpoint_failures  attempts in a row that have failed
    """

    stalled_seconds: float
    critical_seconds: float
    seal_seconds: float
    endpoint_failures: int


class _Scale(NamedTuple):
    """How severe it is that something has lasted, with the lower threshold of what is known already."""

    limits: Limits
    known: Set[str]

    def rate(self, key: str, seconds: float, *, allowance: float = 0.0) -> Severity | None:
        """None: not wrong. `allowance`: seconds that are always allowed."""
        seconds -= allowance
        begins = self.limits.stalled_seconds / (2 if key in self.known else 1)
        if seconds < begins:
            return None
        return "critical" if seconds >= self.limits.critical_seconds else "warning"


def judge(readings: Readings, limits: Limits, known: Set[str]) -> Judgement:
    """All that is wrong. `known`: the keys of the conditions that last by the look before."""
    scale = _Scale(limits, known)
    rules: tuple[Callable[[Readings, _Scale], Iterator[Condition]], ...] = (
        _judge_workers,
        _judge_fan_out,
        _judge_rows,
        _judge_sealing,
        _judge_endpoints,
        _judge_deadlines,
        _judge_disputes,
        _judge_erasures,
    )
    found = [condition for rule in rules for condition in rule(readings, scale)]
    return Judgement({condition.key: condition for condition in found}, _list_held(readings))


def _list_held(readings: Readings) -> frozenset[Kind]:
    held: set[Kind] = set()
    if _has_no_worker(readings):
        held |= {"projection_stalled", "fan_out_stalled", "deadlines_overdue"}
    if readings.failing_count > ENDPOINTS_MAX:
        held.add("endpoint_failing")
    if readings.due is None or len(readings.due) >= OWNERS_MAX:
        held.add("disputes_due")
    return frozenset(held)


def _has_no_worker(readings: Readings) -> bool:
    return readings.obstacles is not None and not readings.obstacles.has_worker


def _judge_workers(readings: Readings, scale: _Scale) -> Iterator[Condition]:
    """Projections that are behind and do not move: one condition if no worker runs, else one for each."""
    if _has_no_worker(readings):
        key = "worker_stalled"
        behind = [lag for lag in readings.lags if lag.events]
        severity = scale.rate(key, max((lag.seconds for lag in behind), default=0.0))
        # Of another event loop that has just begun to look: whoever is about to connect is not missing.
        is_seen = key in scale.known or readings.absent_seconds >= WORKER_ABSENT_SECONDS
        if severity is not None and is_seen:
            names = ", ".join(lag.projection for lag in behind[:3])
            more = f" and {len(behind) - 3} more" if len(behind) > 3 else ""
            yield Condition(
                key,
                "worker_stalled",
                severity,
                f"No worker applies events: {names}{more} are behind the log.",
                "No worker is connected to the database.",
                {"projections": [_describe_lag(lag) for lag in behind[:PROJECTIONS_SHOWN_MAX]]},
            )
        return
    for lag in readings.lags:
        key = f"projection_stalled/{lag.projection}"
        severity = scale.rate(key, min(lag.seconds, readings.moved[lag.projection]))
        if severity is not None:
            yield Condition(
                key,
                "projection_stalled",
                severity,
                f"The projection {lag.projection} is behind the log and does not move.",
                _name_cause(readings, "projections", f"has applied nothing after position {lag.position}"),
                {**_describe_lag(lag), **_describe_holders(readings, "projections")},
            )


def _name_cause(readings: Readings, work: Work, idleness: str) -> str:
    """Why work does not move; `idleness`: what is to be said if nothing else is known."""
    obstacles = readings.obstacles
    if obstacles is not None and not obstacles.has_worker:
        return "No worker is connected to the database."
    if obstacles is not None and (holders := obstacles.holders.get(work)):
        sessions = ", ".join(f"process {pid} ({name})" for pid, name in holders.items())
        return f"A lock of the database that it needs is held by {sessions}."
    if obstacles is not None and not obstacles.has_standby:
        return "No synchronous standby is connected: what none has is not applied."
    return f"A worker is connected, but {idleness}: its log says why."


def _describe_lag(lag: Lag) -> dict[str, object]:
    return {
        "projection": lag.projection,
        "generation": lag.generation,
        "position": lag.position,
        "events": lag.events,
        "parked": lag.parked,
    }


def _describe_holders(readings: Readings, work: Work) -> dict[str, object]:
    holders = readings.obstacles.holders.get(work, {}) if readings.obstacles else {}
    return {"held_by": [{"pid": pid, "session": name} for pid, name in holders.items()]}


def _judge_fan_out(readings: Readings, scale: _Scale) -> Iterator[Condition]:
    """The fan-out, behind the feed: if the feed is behind the log, that is the feed's condition."""
    lag, key = readings.fan_out, "fan_out_stalled"
    if lag is None or _has_no_worker(readings):
        return
    severity = scale.rate(key, min(lag.seconds, readings.moved["fan-out"]))
    if severity is not None:
        yield Condition(
            key,
            "fan_out_stalled",
            severity,
            "New Events are not turned into webhook deliveries.",
            _name_cause(readings, "fan-out", f"has turned nothing after position {lag.position}"),
            {"position": lag.position, "events": lag.events, **_describe_holders(readings, "fan-out")},
        )


def _judge_rows(readings: Readings, scale: _Scale) -> Iterator[Condition]:
    """Rows that are wrong, and rows that lack something."""
    for lag in readings.lags:
        if lag.differing:
            keys = list(readings.differing.get(lag.projection, ()))
            yield Condition(
                f"projection_drift/{lag.projection}",
                "projection_drift",
                "critical",
                f"Rows of the projection {lag.projection} differ from a replay of the log.",
                f"A verification has found {_count(lag.differing, 'row')} that the log does not account for.",
                {**_describe_lag(lag), "differing": lag.differing, "keys": keys},
            )
        if lag.parked:
            first = next((each for each in readings.parked if each.projection == lag.projection), None)
            stream = {"stream": first.stream, "reason": first.reason} if first else {}
            reason = f": {first.reason}" if first else ""
            yield Condition(
                f"projection_incomplete/{lag.projection}",
                "projection_incomplete",
                "warning",
                f"Lists of {lag.projection} lack something: streams are parked.",
                f"{_count(lag.parked, 'stream')} could not be applied{reason}.",
                {**_describe_lag(lag), **stream},
            )


def _judge_sealing(readings: Readings, scale: _Scale) -> Iterator[Condition]:
    sealing, key = readings.sealing, "unsealed_events"
    severity, cause = _rate_sealing(readings, scale, key)
    if severity is not None:
        yield Condition(
            key,
            "unsealed_events",
            severity,
            "New events are not sealed into the Merkle tree.",
            cause,
            {"size": sealing.size, "events": sealing.events, **_describe_holders(readings, "sealing")},
        )


def _rate_sealing(readings: Readings, scale: _Scale, key: str) -> tuple[Severity | None, str]:
    sealing = readings.sealing
    if sealing.error is not None:
        return "critical", f"Sealing has stopped by itself: {sealing.error}"
    if sealing.events < 0:
        return "critical", "The log is shorter than its tree: events were cut off."
    if not sealing.has_begun or sealing.is_copy or not sealing.events:
        return None, ""
    idle_seconds = min(sealing.seconds, sealing.idle_seconds)
    severity = scale.rate(key, idle_seconds, allowance=scale.limits.seal_seconds)
    return severity, _name_cause(readings, "sealing", f"has sealed nothing after position {sealing.size}")


def _judge_endpoints(readings: Readings, scale: _Scale) -> Iterator[Condition]:
    for each in readings.failing:
        key = f"endpoint_failing/{each.endpoint}"
        is_paused = each.retry_at is not None
        if is_paused or each.given_up or each.attempts >= scale.limits.endpoint_failures:
            yield Condition(
                key,
                "endpoint_failing",
                "critical" if each.given_up else "warning",
                f"The webhook endpoint {each.endpoint} accepts nothing.",
                _name_failure(each, is_paused=is_paused),
                {
                    "endpoint": each.endpoint,
                    "account": each.account,
                    "livemode": each.livemode,
                    "since": each.since,
                    "attempts": each.attempts,
                    "given_up": each.given_up,
                    "status": each.status,
                    "error": each.error,
                    "retry_at": each.retry_at,
                },
            )


_ERRORS = {
    "timeout": "there was no answer in time",
    "refused": "the connection was refused",
    "connection": "the connection was lost",
    "dns": "its host's name was not found",
    "tls": "its certificate was not valid",
    "protocol": "its answer was no HTTP",
    "private_address": "its address was a private one, which is not allowed",
}
"""Why an attempt got no answer, by the codes of the sender."""


def _name_failure(failing: FailingEndpoint, *, is_paused: bool) -> str:
    answer = (
        f"its answer had status {failing.status}"
        if failing.error is None
        else _ERRORS.get(failing.error, f"there was no answer ({failing.error})")
    )
    return (
        f"Every attempt fails. The last time {answer}."
        f"{' It is tried seldom until it accepts one.' if is_paused else ''}"
        f"{' Deliveries were given up.' if failing.given_up else ''}"
    )


def _judge_deadlines(readings: Readings, scale: _Scale) -> Iterator[Condition]:
    if _has_no_worker(readings):
        return
    for kind, seconds in readings.overdue_seconds.items():
        key = f"deadlines_overdue/{kind}"
        severity = scale.rate(key, min(seconds, readings.moved[kind]))
        if severity is not None:
            yield Condition(
                key,
                "deadlines_overdue",
                severity,
                f"Due dates of {_UNITS.get(kind, kind)} have passed, and nothing was done about them.",
                "No worker runs that acts on due dates, or one of the objects cannot be read.",
                {"kind": kind},
            )


def _judge_disputes(readings: Readings, scale: _Scale) -> Iterator[Condition]:
    for due in readings.due or ():
        mode = "live" if due.livemode else "test"
        is_critical = due.very_soon > 0
        yield Condition(
            f"disputes_due/{due.account}/{mode}",
            "disputes_due",
            "critical" if is_critical else "warning",
            f"{_count(due.total, 'dispute')} of {due.account} ({mode} mode) must be answered soon.",
            f"No evidence was submitted, and the first due date is {'very near' if is_critical else 'near'}.",
            {
                "account": due.account,
                "livemode": due.livemode,
                "count": due.total,
                "very_soon": due.very_soon,
                "first_due_at": due.first_due_at,
                "disputes": list(due.ids[:IDS_SHOWN_MAX]),
            },
        )


def _judge_erasures(readings: Readings, scale: _Scale) -> Iterator[Condition]:
    """Somebody's data is to be destroyed, and is not."""
    for each in readings.erasures:
        key = f"erasure_stalled/{each.job}"
        if each.seconds < ERASURE_STILL_SECONDS / (2 if key in scale.known else 1):
            continue
        yield Condition(
            key,
            "erasure_stalled",
            "critical" if each.seconds >= ERASURE_STILL_CRITICAL_SECONDS else "warning",
            f"The erasure {each.job} does not move: it is in the step {each.step}.",
            each.obstacle or "No process has said why: perhaps no worker runs.",
            {"job": each.job, "step": each.step},
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""What is wrong now, as one look at the service has found it.

A condition has a key, which says what is wrong with what: there is one alert of a key at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Severity = Literal["warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("warning", "critical")
"""From the lesser to the greater."""

Kind = Literal[
    "worker_stalled",
    "projection_stalled",
    "fan_out_stalled",
    "projection_incomplete",
    "projection_drift",
    "unsealed_events",
    "endpoint_failing",
    "deadlines_overdue",
    "disputes_due",
    "erasure_stalled",
]

REMEDIES: Mapping[str, tuple[str, str]] = {
    "worker_stalled": (
        "Start a worker, or read in the supervisor's log why it ended.",
        "docs/operations.md, A projection is behind",
    ),
    "projection_stalled": (
        "Read in the worker's log why its steps fail; end the session that holds the lock.",
        "docs/operations.md, A projection is behind",
    ),
    "fan_out_stalled": (
        "Read in the worker's log why its loop `webhook fan-out` fails.",
        "docs/operations.md, A projection is behind",
    ),
    "projection_incomplete": (
        "Mend what the error names, then: ledger projections retry {projection} {stream}",
        "docs/operations.md, Parked streams",
    ),
    "projection_drift": (
        "Verify all rows; if they still differ: ledger projections rebuild {projection}",
        "docs/rebuilding.md, A row has drifted",
    ),
    "unsealed_events": (
        "Start a worker; if sealing has stopped by itself: ledger audit verify",
        "docs/operations.md, Sealing has stopped",
    ),
    "endpoint_failing": (
        "Tell whoever runs the receiver. Once it accepts: ledger webhooks retry-all --endpoint {endpoint}",
        "docs/operations.md, A webhook endpoint fails",
    ),
    "deadlines_overdue": (
        "Start a worker, or read in its log why its loop `deadlines` fails.",
        "docs/alerts.md, What is watched",
    ),
    "disputes_due": (
        "Submit evidence, or close the disputes: without it they are lost at their due dates.",
        "docs/alerts.md, What is watched",
    ),
    "erasure_stalled": (
        "Remove what the cause names; without one, read in the worker's log why its loop `erasures` fails.",
        "docs/erasure.md, An erasure that does not move",
    ),
}
"""What to do about each kind, and where it is explained."""


def describe_remedy(kind: str, details: Mapping[str, Any]) -> tuple[str, str]:
    """What to do, and where it is explained; of a kind that only a later release has, only where."""
    action, see = REMEDIES.get(kind, ("", "docs/alerts.md"))
    names = {name: details.get(name, name.upper()) for name in ("projection", "stream", "endpoint")}
    return action.format_map(names), see


class Condition(NamedTuple):
    """Something that is wrong.

    key       its kind, and what it is about: `projection_stalled/feed`
    summary   one line: what is wrong
    cause     one line: why, as far as that is known. Neither line has a figure that changes with time
    details   ids and counts; never a secret, a URL or personal data
    """

    key: str
    kind: Kind
    severity: Severity
    summary: str
    cause: str
    details: Mapping[str, Any]


class Judgement(NamedTuple):
    """All that is wrong by one look, by key; and the kinds of which it cannot say that what it did not find
    has ended: of these it did not look at everything."""

    conditions: Mapping[str, Condition]
    held: frozenset[Kind]


def is_above(severity: Severity, other: Severity) -> bool:
    """Whether a severity is greater than another one."""
    return SEVERITIES.index(severity) > SEVERITIES.index(other)

"""Requests are counted at little cost, and rendered as prometheus_client would count them."""

from __future__ import annotations

import re
from functools import partial

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from ledger.metrics.backlogs import NOTHING_MEASURED
from ledger.metrics.prometheus import SECONDS_BUCKETS, Metrics
from tests.work import count_calls

CALLS_MAX = 4
"""The function, two calls in it, and the end of the profile."""


def render_requests(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render(NOTHING_MEASURED).decode().splitlines()
    matches = (
        re.match(r"(ledger_request\S*_(?:total|bucket|sum|count)\{.*\}) (\S+)$", line) for line in lines
    )
    return {match[1]: float(match[2]) for match in matches if match}


def test_requests_are_rendered_as_if_each_were_observed() -> None:
    metrics = Metrics()
    registry = CollectorRegistry()
    expected = Histogram(
        "ledger_request_seconds", "", ("operation",), buckets=SECONDS_BUCKETS, registry=registry
    )
    observed = [bound * factor for bound in SECONDS_BUCKETS for factor in (0.5, 1, 1.25)]
    for half in (observed[::2], observed[1::2]):
        for seconds in half:
            metrics.observe_request("GET /v1/x", 200, seconds)
            expected.labels("GET /v1/x").observe(seconds)
        rendered = render_requests(metrics)
    for line in generate_latest(registry).decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("ledger_request_seconds_") and "_created" not in name:
            assert abs(rendered.pop(name) - float(value)) < 1e-9, name
    assert rendered == {'ledger_requests_total{operation="GET /v1/x",status="200"}': len(observed)}


def test_responses_are_counted_by_status() -> None:
    metrics = Metrics()
    for status in (200, 404, 200):
        metrics.observe_request("GET /v1/x", status, 0.1)
    rendered = render_requests(metrics)
    assert rendered['ledger_requests_total{operation="GET /v1/x",status="200"}'] == 2
    assert rendered['ledger_requests_total{operation="GET /v1/x",status="404"}'] == 1
    assert rendered['ledger_request_seconds_count{operation="GET /v1/x"}'] == 3


def test_a_request_is_counted_with_few_calls() -> None:
    metrics = Metrics()
    metrics.observe_request("GET /v1/x", 200, 0.1)
    assert count_calls(partial(metrics.observe_request, "GET /v1/x", 200, 0.1)) <= CALLS_MAX

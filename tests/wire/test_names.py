"""Event types and API versions against the SDK, and the patterns that match types."""

from __future__ import annotations

import inspect
import re

import pytest
import stripe
from stripe.params import _webhook_endpoint_create_params as sdk

from ledger.wire import event_types, versions

SDK_SOURCE = inspect.getsource(sdk)


def test_event_types_are_those_of_the_sdk() -> None:
    known = set(re.findall(r'"([a-z_0-9]+\.[a-z_.0-9]+)"', SDK_SOURCE))
    assert known == event_types.EVENT_TYPES - event_types.PREVIEW_EVENT_TYPES
    assert len(event_types.PREVIEW_EVENT_TYPES) == 5  # tests/privacy has the SDK that knows them
    assert len(event_types.ORDERED_EVENT_TYPES) == len(event_types.EVENT_TYPES) == 280


def test_versions_are_those_of_the_sdk() -> None:
    known = set(re.findall(r'"(20\d\d-[^"]+)"', SDK_SOURCE))
    assert known == versions.VERSIONS
    assert len(versions.ORDERED_VERSIONS) == len(versions.VERSIONS) == 129
    assert list(versions.ORDERED_VERSIONS) == sorted(versions.ORDERED_VERSIONS)
    assert stripe.api_version == versions.LATEST_VERSION


@pytest.mark.parametrize(
    ("pattern", "event_type", "matched"),
    [
        ("charge.succeeded", "charge.succeeded", True),
        ("charge.succeeded", "charge.failed", False),
        ("charge.*", "charge.succeeded", True),
        ("charge.*", "charge.dispute.created", True),
        ("charge.dispute.*", "charge.dispute.created", True),
        ("charge.dispute.*", "charge.succeeded", False),
        ("invoice.*", "invoiceitem.created", False),
        ("*", "customer.created", True),
        ("charge*", "charge.succeeded", False),
        ("*.created", "customer.created", False),
        ("*.*", "customer.created", False),
        ("", "customer.created", False),
        (".*", "customer.created", False),
    ],
)
def test_a_pattern_matches_itself_or_its_group(pattern: str, event_type: str, matched: bool) -> None:
    assert event_types.matches(pattern, event_type) is matched

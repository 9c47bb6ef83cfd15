"""What the code knows of Stripe's API is what the pinned SDK has."""

from __future__ import annotations

from ledger.api.unknown_routes.hints import STRIPE_ROUTES_FILE
from tests.sdk.api_tables import render_stripe_routes


def test_the_list_of_stripes_routes_is_that_of_the_pinned_sdk() -> None:
    assert STRIPE_ROUTES_FILE.read_text() == render_stripe_routes(), "run `make api-tables`"

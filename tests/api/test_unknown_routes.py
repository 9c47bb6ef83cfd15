"""The error for a URL that does not exist says what is nearest, or that only Stripe has it."""

from __future__ import annotations

import re

import pytest

from tests.api.service import Caller, assert_refused


@pytest.mark.parametrize(
    ("method", "path", "hint"),
    [
        ("GET", "/v1/dispute", "Did you mean /v1/disputes?"),
        ("POST", "/v1/dispute/du_1/close", "Did you mean /v1/disputes/{dispute}/close?"),
        ("GET", "/customers", "Did you mean /v1/customers?"),
        ("GET", "/v1/v1/customers", "Did you mean /v1/customers?"),
        ("GET", "/doc", "Did you mean /docs?"),
        ("PUT", "/internal/v1/resource/invoice/in_1", "Did you mean /internal/v1/resources/{type}/{id}?"),
        (
            "GET",
            "/v1/disputes/",
            "To list objects, remove the trailing slash; to retrieve one, append its id.",
        ),
        ("GET", "/docs/", "Remove the trailing slash."),
        ("PATCH", "/v1/customers/cus_1", "This URL takes DELETE, GET, POST."),
        (
            "POST",
            "/v1/subscriptions",
            "Ledger does not have subscriptions of its own: it shows those that other services publish; "
            "see docs/api.md for what it has.",
        ),
        (
            "POST",
            "/v1/account_links",
            "Ledger does not have account links; see docs/api.md for what it has.",
        ),
        (
            "GET",
            "/v1/customers/search",
            "Ledger does not have this operation; see docs/api.md for what it has.",
        ),
        # Only the words are compared, not the ids and the prefix that all paths have.
        ("GET", "/v1/foo/bar", "See docs/api.md for the URLs that Ledger has."),
        ("GET", "/internal/v1/foo", "See docs/api.md for the URLs that Ledger has."),
        ("GET", "/internal/v1/account", "Did you mean /internal/v1/accounts?"),
        ("GET", "/v1/" + "x" * 3000, "See docs/api.md for the URLs that Ledger has."),
    ],
)
def test_the_error_says_what_is_nearest_or_not_here(raw: Caller, method: str, path: str, hint: str) -> None:
    message = f"Unrecognized request URL ({method}: {path}). {hint}"
    assert_refused(raw.call(method, path), 404, message=f"^{re.escape(message)}$")

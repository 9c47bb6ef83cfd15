"""The error for a URL that is not served, or not with this method (contract §1.1): it says what is nearest.

Stripe's URLs are in `stripe_routes.txt`, a line each: its methods, its path. `make api-tables` writes it from
the pinned SDK, and tests/sdk/test_api_tables.py compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

from ledger.errors import UnknownRoute
from ledger.wire.published_types import PUBLISHED_TYPES
from ledger.wire.suggestions import find_nearest

STRIPE_ROUTES_FILE = Path(__file__).with_name("stripe_routes.txt")
SEARCH_SEGMENT = "search"
"""The segment in place of an id in the URLs of Stripe's searches, which are not served. No object has this
id."""

Methods = Mapping[str, Collection[str]]
"""Methods by path template: `/v1/disputes/{dispute}`."""

_COMPARED_LENGTH_MAX = 200
_CLOCK_PATH = "/internal/v1/clock"
_LOGIN_PATH = "/stripecli/"
_PREFIX = re.compile("^/(internal/)?(v1/)?")


def unknown_route_error(method: str, path: str, served: Methods) -> UnknownRoute:
    """The error for a request that no route in `served` answers."""
    hint = _find_hint(method, path, served)
    return UnknownRoute(f"Unrecognized request URL ({method}: {path}). {hint}")


def preview_route_error(method: str, path: str) -> UnknownRoute:
    """The error for a request without a preview version for a URL that Stripe has in preview only."""
    return UnknownRoute(
        f"Unrecognized request URL ({method}: {path}). It is in preview: send a preview version in the "
        "header Stripe-Version, such as 2026-09-30.preview."
    )


def group_methods(routes: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Methods by path, of (method, path)."""
    grouped: dict[str, set[str]] = {}
    for method, path in routes:
        grouped.setdefault(path, set()).add(method)
    return grouped


@cache
def read_stripe_routes() -> dict[str, set[str]]:
    """The methods of Stripe's API by path template."""
    lines = (line.rsplit(" ", 1) for line in STRIPE_ROUTES_FILE.read_text().splitlines())
    return {path: set(methods.split()) for methods, path in lines}


def _find_hint(method: str, path: str, served: Methods) -> str:
    if path == _CLOCK_PATH:
        return "Only a service with LEDGER_TEST_CLOCK=true has a clock to move."
    if path.startswith(_LOGIN_PATH):
        return (
            "`stripe login` works with `ledger serve` in development only. Use a key instead: "
            "`stripe config --set test_mode_api_key sk_test_...`; see docs/stripe-cli.md."
        )
    if path.endswith("/") and _find_template(path.rstrip("/"), served):
        if any(each.startswith(f"{path}{{") for each in served):
            return "To list objects, remove the trailing slash; to retrieve one, append its id."
        return "Remove the trailing slash."
    of_stripe = read_stripe_routes()
    stripe_template = _find_template(path, of_stripe)
    template = _find_template(path, served)
    if stripe_template is not None and (template is None or method in of_stripe[stripe_template]):
        return f"{_describe_absence(stripe_template, served)}; see docs/api.md for what it has."
    if template is not None:
        return f"This URL takes {', '.join(sorted(served[template]))}."
    nearest = _find_nearest_path(path, served)
    if nearest is not None:
        return f"Did you mean {nearest}?"
    return "See docs/api.md for the URLs that Ledger has."


def _describe_absence(template: str, served: Methods) -> str:
    """What of Stripe's API the service does not have, for an operation of Stripe's with this path."""
    collection = template.partition("/{")[0].removesuffix(f"/{SEARCH_SEGMENT}")
    name = re.sub("[/_]", " ", collection.removeprefix("/v1/").removeprefix("/"))
    if any(each.url == collection for each in PUBLISHED_TYPES):
        return f"Ledger does not have {name} of its own: it shows those that other services publish"
    if any(each == collection or each.startswith(f"{collection}/") for each in served):
        return "Ledger does not have this operation"
    return f"Ledger does not have {name}"


def _find_nearest_path(path: str, served: Methods) -> str | None:
    """The template most like `path`, if one is much like it."""
    path = path[:_COMPARED_LENGTH_MAX]
    by_filled = {_fill(each, path): each for each in served}
    nearest = find_nearest(path, by_filled)
    if nearest is None or not _have_like_words(path, by_filled[nearest]):
        return None
    return by_filled[nearest]


def _have_like_words(path: str, template: str) -> bool:
    """Whether the two are alike also without what paths have in common anyway: the prefix, and the ids."""
    segments, wanted = path.split("/"), template.split("/")
    if len(segments) == len(wanted):
        segments = [
            segment for segment, each in zip(segments, wanted, strict=True) if not each.startswith("{")
        ]
    wanted = [each for each in wanted if not each.startswith("{")]
    words, wanted_words = (_PREFIX.sub("", "/".join(each)) for each in (segments, wanted))
    return find_nearest(words, [wanted_words]) is not None


def _find_template(path: str, templates: Iterable[str]) -> str | None:
    """The template that matches `path`; of several, the one with fewest parameters."""
    segments = path.split("/")
    matching = [each for each in templates if _matches(segments, each.split("/"))]
    return min(matching, key=lambda each: each.count("{"), default=None)


def _matches(segments: list[str], template: list[str]) -> bool:
    return len(segments) == len(template) and all(
        wanted == segment or (wanted.startswith("{") and segment not in ("", SEARCH_SEGMENT))
        for segment, wanted in zip(segments, template, strict=True)
    )


def _fill(template: str, path: str) -> str:
    """The template with the ids of `path`, so that only the words of the two are compared."""
    segments, wanted = path.split("/"), template.split("/")
    if len(segments) != len(wanted):
        return template
    return "/".join(
        segment if each.startswith("{") and segment else each
        for segment, each in zip(segments, wanted, strict=True)
    )

"""The tables that come from the pinned SDK and from the code: what Stripe has, and what of it Ledger serves.

`make api-tables` writes them: Stripe's routes, for the errors that use them, and the tables of docs/api.md.
`test_api_tables.py` compares them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import stripe

from ledger.api.public.operations import Operation
from ledger.api.public.published_routes import PUBLISHED
from ledger.api.public.routes import OPERATIONS
from ledger.api.unknown_routes.hints import STRIPE_ROUTES_FILE, group_methods
from ledger.api.v2.routes import V2_OPERATIONS
from ledger.domain.cards import TEST_CARDS, TestCard

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
_REQUEST = re.compile(r'self\._request(?:_stream)?\(\s*"(\w+)",\s*(?:"([^"]+)"|f"([^"]+)")')
_PARAMETER = re.compile(r"\{\w+\}")
_LINE_LENGTH_MAX = 132
_VERBS = {
    ("POST", False): "create",
    ("GET", False): "list",
    ("GET", True): "retrieve",
    ("POST", True): "update",
    ("DELETE", True): "delete",
}


def derive_stripe_routes() -> dict[str, set[str]]:
    """Methods by path of every operation of the SDK's services."""
    routes = []
    for file in Path(stripe.__file__).parent.rglob("*_service.py"):
        for method, plain, formatted in _REQUEST.findall(file.read_text()):
            routes.append((method.upper(), plain or formatted))
    return group_methods(routes)


def render_stripe_routes() -> str:
    """The contents of the file with Stripe's routes."""
    return "".join(
        f"{' '.join(sorted(methods))} {path}\n" for path, methods in sorted(derive_stripe_routes().items())
    )


def render_document(text: str) -> str:
    """docs/api.md with its tables as they are now: each between two comments, the first with its name."""
    tables = {
        "served": _render_served([each for each in OPERATIONS if each not in set(PUBLISHED)], "/v1/"),
        "served under v2": _render_served(V2_OPERATIONS, "/v2/core/"),
        "published": _render_published(),
        "absent": _render_absent(),
        "cards": _render_cards(),
    }
    for name, table in tables.items():
        start, found, rest = text.partition(f"<!-- table {name} (written by `make api-tables`) -->\n")
        assert found, name
        text = start + found + table + rest[rest.index("\n<!-- end -->") :]
    return text


def _list_stripe_operations() -> set[tuple[str, str]]:
    routes = derive_stripe_routes().items()
    return {(method, _PARAMETER.sub("{}", path)) for path, methods in routes for method in methods}


def _list_served(operations: Iterable[object]) -> set[tuple[str, str]]:
    return {(each.method, _PARAMETER.sub("{}", each.path)) for each in operations}  # type: ignore[attr-defined]


def _find_collection(path: str) -> str:
    """The resource that a path belongs to: `customers`, `checkout/sessions`."""
    path = path.removeprefix("/v1/").removeprefix("/v2/core/")
    words = path.removesuffix("/search").partition("/{}")[0].split("/")
    return "/".join(words[:2] if words[0] in _NAMESPACES else words[:1])


def _describe(method: str, path: str) -> str:
    """An operation in a word, or by what follows the id: `retrieve`, `POST …/close`."""
    own, _, rest = path.partition("/{}")
    if not rest and not own.endswith("/search"):
        return _VERBS.get((method, "/{}" in path), f"{method} {own}")
    if own.endswith("/search"):
        return "search"
    return f"`{method} …{rest.replace('{}', '{id}')}`"


def _render_served(own: Sequence[Operation], base: str) -> str:
    served, published = _list_served(own), _list_served(PUBLISHED)
    missing = _list_stripe_operations() - served - published
    rows = [f"| `{base}…` | here | Stripe's, not here |", "|---|---|---|"]
    by_collection: dict[str, list[str]] = defaultdict(list)
    for operation in own:
        path = _PARAMETER.sub("{}", operation.path)
        word = _describe(operation.method, path)
        if word == "list" and not operation.is_list:
            word = "retrieve"
        by_collection[_find_collection(path)].append(word)
    for collection in sorted(by_collection):
        absent = sorted(
            _describe(method, path)
            for method, path in missing
            if path.startswith(base) and _find_collection(path) == collection
        )
        here = ", ".join(dict.fromkeys(by_collection[collection]))
        rows.append(f"| `{collection}` | {here} | {', '.join(absent)} |")
    return "\n".join(rows)


def _render_published() -> str:
    own = {_find_collection(path) for _, path in _list_served(set(OPERATIONS) - set(PUBLISHED))}
    paths = {_PARAMETER.sub("{}", each.path) for each in PUBLISHED}
    collections = sorted({_find_collection(path) for path in paths} - own)
    below = sorted(path.removeprefix("/v1/") for path in paths if _find_collection(path) in own)
    lists = _wrap(f"`{each}`" for each in collections)
    return f"{lists}\n\nBelow the ledger's own objects:\n{_wrap(f'`{each}`' for each in below)}"


def _render_absent() -> str:
    here = {_find_collection(path) for _, path in _list_served(OPERATIONS)}
    absent = sorted(
        {_find_collection(path) for _, path in _list_stripe_operations() if path.startswith("/v1/")} - here
    )
    return _wrap(f"`{each}`" for each in absent)


def _render_cards() -> str:
    rows = ["| token | number | effect |", "|---|---|---|"]
    for token, card in TEST_CARDS.items():
        number = " ".join(card.number[at : at + 4] for at in range(0, len(card.number), 4))
        rows.append(f"| `{token}` | {number} | {_describe_card(card)} |")
    return "\n".join(rows)


def _describe_card(card: TestCard) -> str:
    if card.decline is not None:
        code = card.decline.code
        reason = f"`{code}`"
        if card.decline.decline_code not in (None, code):
            reason += f", `{card.decline.decline_code}`"
        attachment = "" if card.decline.declines_attachment else "; a customer may save the card"
        return f"declined, 402: {reason}{attachment}"
    if card.dispute is not None:
        spec = card.dispute
        count = "" if spec.dispute_count == 1 else f"{spec.dispute_count} times "
        code = f", network reason code {spec.network_reason_code}" if spec.network_reason_code else ""
        eligible = "".join(f", eligible for `{each}`" for each in spec.eligibility)
        return f"{count}{spec.kind}, reason `{spec.reason}`{code}{eligible}"
    notes = [f"{card.brand}, {card.funding}, {card.country}"]
    if card.bypass_pending:
        notes.append("funds available at once")
    if card.cvc_check != "pass":
        notes.append(f"`cvc_check` {card.cvc_check}")
    if card.risk_level != "normal":
        notes.append(f"`risk_level` {card.risk_level}")
    return "; ".join(notes)


def _wrap(words: Iterable[str]) -> str:
    """The words, separated by commas, in lines of the usual length."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 3 > _LINE_LENGTH_MAX:
            lines.append("")
        lines[-1] += f"{word}, "
    return "\n".join(line.rstrip() for line in lines).rstrip(",")


def _find_namespaces() -> set[str]:
    """First segments that are no resources: `checkout`, `terminal`. Nothing has them as its whole path. The
    pinned SDK does not know those of previews."""
    paths = {path for _, path in _list_stripe_operations()}
    firsts = {path.removeprefix("/v1/").partition("/")[0] for path in paths}
    return {"elements", "privacy"} | {
        first for first in firsts if not any(path in (f"/v1/{first}", f"/v1/{first}/{{}}") for path in paths)
    }


_NAMESPACES = _find_namespaces()


if __name__ == "__main__":
    STRIPE_ROUTES_FILE.write_text(render_stripe_routes())
    DOCUMENT.write_text(render_document(DOCUMENT.read_text()))

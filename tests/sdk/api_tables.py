"""The tables that come from the pinned SDK and from the code: what Stripe has, and what of it Ledger serves.

`make api-tables` writes them: Stripe's routes, for the errors that use them, and the tables of docs/api.md.
`test_api_tables.py` compares them.
"""

from __future__ import annotations

import re
from pathlib import Path

import stripe

from ledger.api.unknown_routes.hints import STRIPE_ROUTES_FILE, group_methods

ROOT = Path(__file__).resolve().parents[2]
_REQUEST = re.compile(r'self\._request(?:_stream)?\(\s*"(\w+)",\s*(?:"([^"]+)"|f"([^"]+)")')


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


if __name__ == "__main__":
    STRIPE_ROUTES_FILE.write_text(render_stripe_routes())

"""The parameters that all lists of /v2 have (contract §10.3)."""

from __future__ import annotations

from ledger.wire.parameters import PAGE_LIMIT_MAX
from ledger.wire.scalars import Integer, Parameter, Text

LIMIT_DEFAULT = 20
LIMIT_MAX = PAGE_LIMIT_MAX
PAGE_LENGTH_MAX = 4_000
"""Characters of a page token. That of a list with all filters has some 2,500."""

V2_PAGINATION: dict[str, Parameter] = {
    "limit": Integer(
        minimum=1,
        maximum=LIMIT_MAX,
        description=f"How many objects to return, 1 to {LIMIT_MAX}; default: {LIMIT_DEFAULT}.",
    ),
    "page": Text(
        length_max=PAGE_LENGTH_MAX,
        description="The page, from `next_page_url` or `previous_page_url`. It has the filters in it.",
    ),
}

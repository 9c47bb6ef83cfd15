"""`ledger openapi`: the OpenAPI document of the service, without a database or a running service.

It is what GET /openapi.json answers with the same settings, so clients can be generated where nothing runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ledger.api.app import create_app
from ledger.api.openapi.selection import select_paths
from ledger.config import Settings

if TYPE_CHECKING:
    from ledger.api.app import Extensions

# The application connects to its database when it starts, and here it is only described.
_NO_DATABASE = "dbname=none"
_NO_SECRET_KEY = b"describes the service, signs nothing"


def format_document(settings: Settings, extensions: Extensions, prefixes: Sequence[str]) -> str:
    """The document as indented JSON, of the paths that begin with one of `prefixes`; all if there are none.
    Raises SettingError."""
    document = create_app(settings, _NO_DATABASE, _NO_SECRET_KEY, extensions=extensions).openapi()
    if prefixes:
        document = select_paths(document, prefixes)
    return json.dumps(document, indent=2, ensure_ascii=False)

"""No client that we print, write or test with leaves a base address of the SDK at its default, a host of
Stripe: a secret key or an evidence file would go there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import stripe
from stripe._base_address import BaseAddress

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ledger", "projections", "docs", "examples", "benchmarks", "tests")
SUFFIXES = {".py", ".md", ".html", ".js", ".mjs", ".ts"}
# Shows that a client without them contacts Stripe; goes through a proxy; and this file.
OTHERWISE = {"test_written_clients.py", "sitecustomize.py", Path(__file__).name}
MODULE_BASES = {
    name
    for name in vars(stripe)
    if name.endswith("api_base") and not name.startswith("DEFAULT") and isinstance(getattr(stripe, name), str)
}


def _names_all_bases(text: str) -> bool:
    return bool(re.search(r"import .*\bname_bases\b", text)) or all(
        f'"{base}"' in text for base in get_args(BaseAddress)
    )


def _sets_all_module_bases(text: str) -> bool:
    return all(re.search(rf"\b{base}\b", text) for base in MODULE_BASES)


# What a client in a file looks like, and what the file then has, too.
RULES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    (r"StripeClient\([^`]*base_addresses=", _names_all_bases),
    (r"stripe\.api_base = (?!\"http://api\.stripe)", _sets_all_module_bases),
    (r'setattr\(stripe, (?:"\w*api_base"|base\b)', _sets_all_module_bases),
    (r"new Stripe\(", lambda text: bool(re.search(r"new Stripe\([^)]*\bhost\b", text))),
)


def test_every_written_client_names_all_base_addresses() -> None:
    files = [ROOT / "README.md"]
    files += [
        file
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*")
        if file.suffix in SUFFIXES and "node_modules" not in file.parts and "swagger_ui" not in file.parts
    ]
    counts = dict.fromkeys((pattern for pattern, _ in RULES), 0)
    for file in files:
        if file.name in OTHERWISE:
            continue
        text = file.read_text(errors="ignore")
        for pattern, is_complete in RULES:
            if re.search(pattern, text):
                counts[pattern] += 1
                assert is_complete(text), f"{file}: a base address is left at its default ({pattern})"
    assert all(counts.values()), counts
    assert sum(counts.values()) >= 12


def test_the_sdk_has_the_bases_that_we_name() -> None:
    assert set(get_args(BaseAddress)) == {"api", "files", "connect", "meter_events"}
    assert {"api_base", "upload_api_base", "connect_api_base", "meter_events_api_base"} == MODULE_BASES

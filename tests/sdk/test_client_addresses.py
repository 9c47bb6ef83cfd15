"""No client that we print, write or test with leaves a base address of the SDK at its default, a host of
Stripe: a secret key or an evidence file would go there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import stripe
from stripe._base_address import BaseAddress

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = [
    ROOT / "README.md",
    ROOT / "ledger" / "cli" / "serve.py",
    *(file for folder in ("docs", "examples") for file in (ROOT / folder).rglob("*") if file.is_file()),
    *(ROOT / "tests").rglob("*.py"),
]
# Shows that a client without them contacts Stripe; goes through a proxy; and this file.
OTHERWISE = {"test_written_clients.py", "sitecustomize.py", Path(__file__).name}
MODULE_BASES = {
    name
    for name in vars(stripe)
    if name.endswith("api_base") and not name.startswith("DEFAULT") and isinstance(getattr(stripe, name), str)
}


def test_every_written_client_names_all_base_addresses() -> None:
    count = 0
    for file in WRITTEN:
        if file.name in OTHERWISE:
            continue
        text = file.read_text(errors="ignore")
        if "StripeClient(" in text and "base_addresses=" in text:
            count += 1
            for base in get_args(BaseAddress):
                named = f'"{base}"' in text or re.search(r"import .*\bname_bases\b", text)
                assert named, f"{file}: the base address {base} is not set"
        if (
            re.search(r"stripe\.api_base = ", text)
            and "http_proxy" not in text.partition("stripe.api_base = ")[0][-200:]
        ):
            count += 1
            for base in MODULE_BASES:
                assert f"stripe.{base}" in text, f"{file}: stripe.{base} is not set"
    assert count >= 8


def test_the_sdk_has_the_bases_that_we_name() -> None:
    assert set(get_args(BaseAddress)) == {"api", "files", "connect", "meter_events"}
    assert {"api_base", "upload_api_base", "connect_api_base", "meter_events_api_base"} == MODULE_BASES

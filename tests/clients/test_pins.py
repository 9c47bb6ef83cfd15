"""What `make clients` installs is pinned by hashes, without addresses, and is what the document names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.api.service import ROOT
from tests.clients.program import HERE, SYNC_ENGINE

NODE_PACKAGES = {
    HERE / SYNC_ENGINE: "@supabase/stripe-sync-engine",
    ROOT / "tests" / "stripe_cli": "@stripe/cli",
}
LISTS = sorted((HERE / "requirements").glob("*.txt"))


@pytest.mark.parametrize("place", LISTS, ids=[place.stem for place in LISTS])
def test_each_package_has_a_version_and_hashes(place: Path) -> None:
    text = place.read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=\S)", text.strip())
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+ .*\n    --hash=sha256:", entry), entry[:80]


def test_the_document_names_the_pinned_versions() -> None:
    document = (ROOT / "docs" / "compatibility.md").read_text()
    versions = {}
    for place, package in NODE_PACKAGES.items():
        lock = json.loads((place / "package-lock.json").read_text())["packages"]
        assert all("resolved" not in entry for entry in lock.values())
        assert "integrity" in lock[f"node_modules/{package}"]
        versions[package] = lock[f"node_modules/{package}"]["version"]
    for place in LISTS:
        name = re.sub(r"-[\d.]+(b\d+)?$", "", place.stem)
        pinned = re.search(rf"^{name}==(\S+)", place.read_text(), re.M)
        assert pinned is not None, place
        versions[place.stem] = pinned[1]
    for name, version in versions.items():
        assert re.search(rf"^\|.*\b{re.escape(version)}\b.*\|$", document, re.M), name

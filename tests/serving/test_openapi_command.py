"""`ledger openapi`: the document without a database, whole or in part."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx

from tests.api.service import Service
from tests.serving.process import run_ledger


def test_it_is_the_document_that_the_service_answers_with(tmp_path: Path, shared_service: Service) -> None:
    printed = run_ledger(tmp_path / "data", "openapi", test_clock=True)
    assert json.loads(printed.stdout) == httpx.get(f"{shared_service.url}/openapi.json").json()
    assert list(tmp_path.iterdir()) == []


def test_a_part_has_what_its_paths_refer_to_and_nothing_more(tmp_path: Path) -> None:
    printed = run_ledger(tmp_path / "data", "openapi", "--path", "/internal/v1/keys", "--path", "/v1/events")
    part = json.loads(printed.stdout)
    assert set(part["paths"]) == {
        "/internal/v1/keys",
        "/internal/v1/keys/{id}/revoke",
        "/internal/v1/keys/{id}/roll",
        "/v1/events",
        "/v1/events/{event}",
        "/v1/events/{event}/retry",
    }
    referred = set(re.findall(r"#/components/(\w+)/([^\"]+)", printed.stdout))
    components = part["components"]
    kept = {(kind, name) for kind, named in components.items() for name in named if kind != "securitySchemes"}
    assert kept == referred
    assert ("schemas", "new_api_key") in kept
    assert {tag["name"] for tag in part["tags"]} == {"accounts and keys", "event"}


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    refused = run_ledger(tmp_path / "data", "openapi", "--path", "/v3")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "ledger: no path of the API begins with '/v3'\n"

"""The page of the service and the reference of its API, as programs see them."""

from __future__ import annotations

import re

import httpx
import pytest

from ledger import __version__
from tests.api import swagger_ui

PAGES = ("/", "/docs", "/docs/reference.js", "/docs/swagger_ui/swagger-ui-bundle.js")


def test_the_files_of_swagger_ui_are_those_of_the_recorded_release() -> None:
    origin = swagger_ui.read_origin()
    assert origin["sha256"] == swagger_ui.hash_files(), "run `make swagger-ui`"
    assert set(origin["sha256"]) == set(swagger_ui.FILES)
    assert (origin["package"], origin["licence"]) == ("swagger-ui-dist", "Apache-2.0")
    assert "Apache License" in (swagger_ui.FOLDER / "LICENSE").read_text()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_lets_nothing_of_other_hosts_run(http: httpx.Client, path: str) -> None:
    answer = http.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 200
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    head = http.head(path, headers={"accept": "text/html"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == answer.headers["content-length"]
    if answer.headers["content-type"].startswith("text/html"):
        loaded = re.findall(r'(?:src|href)="([^"]*)"', answer.text)
        assert loaded
        assert not [each for each in loaded if "//" in each]
        assert not re.search(r"<script>|<style|style=|onload", answer.text)


def test_an_unchanged_file_is_not_sent_again(http: httpx.Client) -> None:
    path = "/docs/swagger_ui/swagger-ui.css"
    tag = http.get(path).headers["etag"]
    assert http.get(path, headers={"if-none-match": tag}).status_code == 304


def test_the_root_says_what_this_is_and_where_to_go(http: httpx.Client) -> None:
    answer = http.get("/")
    assert answer.headers["vary"] == "accept"
    described = answer.json()
    assert (described["service"], described["version"]) == ("ledger", __version__)
    for name in ("reference", "openapi", "health", "readiness", "metrics"):
        assert http.get(described[name]).status_code == 200
    page = http.get("/", headers={"accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    for path in re.findall(r'<a href="([^"]*)"', page.text):
        assert http.get(f"/{path}").status_code == 200


def test_there_is_one_reference_and_only_its_files(http: httpx.Client) -> None:
    refusal = http.get("/redoc")
    assert refusal.status_code == 404
    assert refusal.json()["error"]["message"].endswith("The reference of the API is at /docs.")
    for path in ("/docs/swagger_ui/../routes.py", "/docs/swagger_ui/%2e%2e/routes.py", "/docs/swagger_ui/"):
        assert http.get(path).status_code == 404

"""The files of the console as they are served, and as they are in the package; no browser is needed."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpx
import pytest

from ledger.api.console.routes import FOLDER, HEADERS
from tests.console import vendor

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
LINES_MAX = 400
FUNCTION_LINES_MAX = 60
LINE_CHARACTERS_MAX = 110
# Where a script begins a function: declared, a method of a class, or an arrow that is named.
FUNCTION = re.compile(
    r"^(?P<indent> *)(?:export )?(?:default )?(?:static )?(?:"
    r"(?:async )?function\*? (?P<declared>\w+)"
    r"|(?:async )?(?P<method>(?!if\b|for\b|while\b|switch\b|catch\b)\w+)\([^;=]*\) \{$"
    r"|const (?P<arrow>\w+) = (?:async )?(?:\([^;]*\)|\w+) => \{$)"
)


def list_files(*suffixes: str) -> list[Path]:
    """The files of the console that are ours."""
    found = (path for path in FOLDER.rglob("*") if path.suffix in suffixes)
    return sorted(path for path in found if not path.is_relative_to(vendor.FOLDER))


@cache
def read(path: Path) -> str:
    return path.read_text()


@pytest.mark.parametrize(
    "path", ["/console", "/console/", "/console/disputes/du_1?tab=money", "/console/a/b.js"]
)
def test_every_place_of_the_console_is_the_page(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.content == (FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize("path", ["/console", "/console/static/main.js", "/console/static/console.css"])
def test_a_file_has_the_strictest_policy_and_is_sent_once(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-cache"
    unchanged = http.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    head = http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == answer.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/console/static/none.js", 404),
        ("POST", "/console", 404),
        ("OPTIONS", "/console/disputes", 404),
        ("GET", "/console/session", 401),
        ("HEAD", "/console/session", 401),
        ("POST", "/console/session", 400),
        ("DELETE", "/console/session", 403),
    ],
)
def test_whatever_is_answered_under_the_console_has_the_policy(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_that_a_file_has_not_changed_has_the_policy_too(http: httpx.Client) -> None:
    path = "/console/static/main.js"
    unchanged = http.get(path, headers={"if-none-match": http.get(path).headers["etag"]})
    assert unchanged.status_code == 304
    assert {name: unchanged.headers.get(name) for name in HEADERS} == HEADERS
    assert "content-security-policy" not in http.get("/consoles").headers


def test_a_file_is_compressed_for_those_who_take_it(http: httpx.Client) -> None:
    path, whole = "/console/static/main.js", (FOLDER / "main.js").read_bytes()
    plain = http.get(path, headers={"accept-encoding": "identity"})
    assert (plain.content, plain.headers.get("content-encoding")) == (whole, None)
    refused = http.get(path, headers={"accept-encoding": "gzip;q=0, br"})
    assert refused.headers.get("content-encoding") is None
    with http.stream("GET", path, headers={"accept-encoding": "br, gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "accept-encoding"
        assert answer.headers["etag"] != plain.headers["etag"]
        assert gzip.decompress(b"".join(answer.iter_raw())) == whole


@pytest.mark.parametrize(
    "path",
    [
        "none.js", "", "vendor", "vendor/", "../routes.py", "%2e%2e/routes.py", "..%2froutes.py",
        "/etc/passwd", "%2fetc%2fpasswd", "main.js/", "main.js%00", "vendor/../../sessions.py",
        "vendor/preact.d.ts",
    ],
)  # fmt: skip
def test_what_is_no_file_of_the_page_is_refused_in_the_form_of_the_api(http: httpx.Client, path: str) -> None:
    # As it is: httpx itself would resolve the dots.
    target = f"/console/static/{path}".encode()
    answer = http.get("/console/static/", extensions={"target": target})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["request-id"].startswith("req_")


def test_a_method_that_changes_something_is_refused(http: httpx.Client) -> None:
    assert http.post("/console/static/main.js").status_code == 404


def test_the_root_leads_to_the_console(http: httpx.Client) -> None:
    assert http.get("/").json()["console"] == "/console"
    assert 'href="console"' in http.get("/", headers={"accept": "text/html"}).text


def test_the_libraries_are_those_of_the_recorded_releases() -> None:
    origin = vendor.read_origin()
    recorded = {name: digest for package in origin.values() for name, digest in package["sha256"].items()}
    assert recorded == vendor.hash_files(), "run `make console-vendor`"
    assert set(origin) == set(vendor.FILES)
    for package, files in vendor.FILES.items():
        licence = next(name for name in files.values() if name.startswith("licences/"))
        words = {"MIT": "Permission is hereby granted", "Apache-2.0": "Apache License"}
        assert words[origin[package]["licence"]] in (vendor.FOLDER / licence).read_text()


def test_the_page_has_nothing_inline_and_nothing_of_other_hosts() -> None:
    page = read(FOLDER / "index.html")
    assert not re.search(r"<script>|<style|style=| on\w+=", page)
    for url in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert url == "/docs" or (FOLDER / url.removeprefix("/console/static/")).is_file(), url
    for path in list_files(".js", ".css", ".html"):
        loaded = r"""(?:url\(|\bsrc=|from |import\(|fetch\()["'`]?https?:"""
        assert not re.search(loaded, read(path)), path.name
    for path in list_files(".js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|\bstyle=|document\.write|eval\(", read(path)
        ), path.name


def test_scripts_are_short_enough_to_read_in_one_sitting() -> None:
    for path in list_files(".js"):
        lines = read(path).splitlines()
        assert len(lines) <= LINES_MAX, path.name
        assert not [line for line in lines if len(line) > LINE_CHARACTERS_MAX], path.name
        for name, length in measure_functions(lines):
            assert length <= FUNCTION_LINES_MAX, f"{path.name}: {name} has {length} lines"


def measure_functions(lines: list[str]) -> Iterator[tuple[str, int]]:
    """The functions of a script with their lines. One ends at the first brace on its own indentation."""
    for start, line in enumerate(lines):
        if found := FUNCTION.match(line):
            end_line = re.compile(rf"^{found['indent']}\}}")
            end = next((n for n in range(start + 1, len(lines)) if end_line.match(lines[n])), start)
            yield found["declared"] or found["method"] or found["arrow"], end - start + 1


def test_functions_of_scripts_are_found() -> None:
    script = ["export async function a() {", "  b();", "}", "class C {", "  d(e) {", "  }", "}"]
    assert list(measure_functions(script)) == [("a", 3), ("d", 2)]


def test_every_file_of_the_console_is_used() -> None:
    used = {FOLDER / "index.html"}
    names = re.findall(r'"/console/static/([^"]+)"', read(FOLDER / "index.html"))
    to_read = [FOLDER / name for name in names]
    while to_read:
        path = to_read.pop()
        if path in used:
            continue
        assert path.is_file(), f"{path.relative_to(FOLDER)} is used, and not there"
        used.add(path)
        if path.suffix == ".js":
            imports = re.findall(r'(?:from|import\()\s*"(\.[^"]+)"', read(path))
            to_read += [(path.parent / name).resolve() for name in imports]
        if path == FOLDER / "main.js":
            rows = re.findall(r'import\("\./views/([\w-]+)\.js"\), css: true', read(path))
            to_read += [FOLDER / "views" / f"{name}.css" for name in rows]
    ours = {*list_files(".js", ".css", ".html", ".svg"), *vendor.FOLDER.glob("*.js")}
    assert ours <= used, sorted(str(path.relative_to(FOLDER)) for path in ours - used)


def test_the_headers_are_those_that_the_documents_name() -> None:
    assert HEADERS["content-security-policy"] == POLICY

"""The site of the documents: what its build refuses. `make docs` builds the real one in the same way."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_citations import ROOT, texts

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("furo") is None, reason="what builds the site is not installed (make docs)"
)
HOME = "# Home\n\n[A place](operations.md#a-place) and [a file](../Makefile)\n"
PAGE = "# Operations\n\n## A place\n\nText\n"


def build(folder: Path, home: str = HOME, **pages: str) -> tuple[int, str]:
    """Exit status and errors of the build of a small site: its home page, one other page and `pages`."""
    site = folder / "docs" / "site"
    shutil.copytree(ROOT / "docs" / "site", site, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", folder)
    for name, text in {"README": home, "operations": PAGE, **pages}.items():
        (folder / "docs" / f"{name}.md").write_text(text)
    command = re.search(r"-m (sphinx .*?)\n\n", make_target("docs"), re.S)
    assert command is not None
    arguments = command[1].split("\n\t@")[0].replace("\\\n", " ").split()
    completed = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return completed.returncode, completed.stderr


def make_target(name: str) -> str:
    """A target of the Makefile with its commands, up to the next empty line."""
    makefile = (ROOT / "Makefile").read_text()
    return makefile[makefile.index(f"\n{name}:") :]


def test_a_site_opens_at_its_home_and_can_be_searched_without_a_server(tmp_path: Path) -> None:
    assert build(tmp_path) == (0, "")
    site = tmp_path / "build" / "site"
    assert "url=docs/README.html" in (site / "index.html").read_text()
    home = (site / "docs" / "README.html").read_text()
    assert 'href="operations.html#a-place"' in home
    assert "Run it" in home
    # A script, not data: a browser lets a page that is a file load no data.
    assert (site / "searchindex.js").read_text().startswith("Search.setIndex(")


@pytest.mark.parametrize(
    ("home", "refusal"),
    [
        ("# Home\n\n[A](operations.md#no-place)\n", "no-place"),
        ("# Home\n\n[A](glossary.md)\n", "glossary.md"),
        ("# Home\n\n[A](#missing)\n", "missing"),
        ("# Home\n\n![A](https://example.com/a.png)\n", "docs/README.html loads https://example.com/a.png"),
        (
            '# Home\n\n<script src="//example.com/a.js"></script>\n',
            "docs/README.html loads //example.com/a.js",
        ),
    ],
)
def test_a_build_with_a_wrong_link_or_a_foreign_asset_fails(tmp_path: Path, home: str, refusal: str) -> None:
    status, errors = build(tmp_path, home)
    assert status != 0
    assert refusal in errors


def test_a_page_without_a_place_in_the_menu_fails_the_build(tmp_path: Path) -> None:
    status, errors = build(tmp_path, lonely="# Lonely\n")
    assert status != 0
    assert re.search(r"lonely\.md.*toctree", errors)


def test_every_place_of_the_menu_is_a_document() -> None:
    settings = (ROOT / "docs/site/conf.py").read_text()
    named = set(re.findall(r'"((?:[\w-]+/)*(?:README|[A-Z]{4,}|docs/[\w-]+))"', settings))
    assert len(named) > 10
    assert {f"{name}.md" for name in named} <= set(texts())


def test_the_home_page_answers_ten_tasks_of_each_role() -> None:
    home = texts()["docs/README.md"]
    for role in ("You have an application", "You run Ledger for others", "You ask it questions"):
        table = home.partition(f"\n## {role}\n")[2].partition("\n## ")[0]
        answers = [line for line in table.splitlines() if line.startswith("| ") and "I want to" not in line]
        assert len(answers) >= 10, role
        assert all("](" in answer for answer in answers)

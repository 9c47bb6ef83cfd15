"""Each section, row, invariant, file and link that sources, tests and documents cite exists.

A section is cited as "contract §1.9", "contract Appendix B" or "internal API §3". A bare "§1.9" belongs to
the document that the same file named last; in one of the two documents themselves it belongs to that
document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

DOCUMENTS = {"contract": "docs/wire-contract.md", "internal api": "docs/internal-api.md"}
FOLDERS = ("ledger", "projections", "tests", "benchmarks", "alembic", "docs", "examples", "clients", "deploy")
SUFFIXES = {".py", ".mjs", ".md", ".sql", ".html", ".patch"}
NOT_OURS = {"node_modules", "__pycache__", "build"}

SECTION = r"§\d+(?:\.\d+)*|Appendix [A-Z]\b"
CITATION = re.compile(
    rf"(?:\b(?P<document>contract|internal API)\s+(?:(?:#|//|--)\s+)?)?(?P<section>{SECTION})", re.I
)
OTHER_FORMS = re.compile(
    r"§(?!\d)|\b(?:contract|internal API),? \d+\.\d|\b(?:contract|internal API)'s section", re.I
)
FILE = re.compile(
    r"(?<![\w./-])(?:\.\./)*(?:(?:[\w-]+/)*[\w-]+\.md|(?:docs|tests)/[\w/-]+\.txt|[A-Z]{4,}\.txt)\b"
)
PATH = re.compile(r"`((?:ledger|projections|tests|benchmarks|alembic|examples|docs|deploy)/[\w./-]*)`")
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ +(?P<title>.+?) *$", re.M)
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
INVARIANT = re.compile(r"\binvariant (\d+)\b")


class Citation(NamedTuple):
    """A section as cited at a place. `document` is None when the file names none before it."""

    place: str
    document: str | None
    section: str

    def __str__(self) -> str:
        return f"{self.place}: {self.document or 'no document'} {self.section}"


@cache
def texts() -> dict[str, str]:
    """The texts of the repository's files, by path from the root."""
    files = {file.name: file for file in sorted(ROOT.glob("*.md"))}
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in SUFFIXES and not NOT_OURS & set(file.parts) and file != Path(__file__):
                files[str(file.relative_to(ROOT))] = file
    return {name: file.read_text() for name, file in files.items()}


@cache
def sections(document: str) -> frozenset[str]:
    """The sections of a document, in the form in which they are cited."""
    titles = [match["title"] for match in HEADING.finditer(prose(texts()[document]))]
    numbers = [
        re.match(r"(?P<appendix>Appendix [A-Z])\b|(?P<number>\d+(?:\.\d+)*)\.? ", title) for title in titles
    ]
    return frozenset(match["appendix"] or f"§{match['number']}" for match in numbers if match)


def prose(text: str) -> str:
    """A Markdown text without the contents of its code blocks. Lines keep their numbers."""
    return FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)


def place(name: str, text: str, position: int) -> str:
    return f"{name}:{text.count(chr(10), 0, position) + 1}"


def citations(name: str, text: str) -> Iterator[Citation]:
    """The sections that a text cites, in order."""
    own_document = name if name in DOCUMENTS.values() else None
    last: str | None = None
    for match in CITATION.finditer(text):
        if match["document"]:
            last = DOCUMENTS[match["document"].lower()]
        document = last if match["document"] else own_document or last
        if document is None and match["section"].startswith("Appendix"):
            continue  # an appendix of some other work
        yield Citation(place(name, text, match.start()), document, match["section"])


def find_unresolved(name: str, text: str) -> list[str]:
    """The citations of sections that do not exist."""
    return [
        str(citation)
        for citation in citations(name, text)
        if citation.document is None or citation.section not in sections(citation.document)
    ]


def anchors(name: str) -> set[str]:
    """The fragments (after #) that a link to a Markdown file may have: one for each heading."""
    fragments: set[str] = set()
    for match in HEADING.finditer(prose(texts()[name])):
        plain = re.sub(r"[^\w\- ]", "", match["title"].lower()).replace(" ", "-")
        count = sum(1 for other in fragments if re.fullmatch(rf"{re.escape(plain)}(-\d+)?", other))
        fragments.add(f"{plain}-{count}" if count else plain)
    return fragments


def test_every_cited_section_exists() -> None:
    assert [wrong for name, text in texts().items() for wrong in find_unresolved(name, text)] == []


def test_both_documents_are_cited_or_cite_themselves() -> None:
    """If citations changed their form, the test above would find none and pass."""
    cited = [citation for name, text in texts().items() for citation in citations(name, text)]
    assert {citation.document for citation in cited} == set(DOCUMENTS.values())
    assert len(cited) > 200


@pytest.mark.parametrize(
    "text",
    [
        "contract §1.99",
        "Contract §2.2, §9.9",
        "contract Appendix Z",
        "internal API §17",
        "as §1.9 says",
        "§3.3-§3.9 of contract",
    ],
)
def test_a_wrong_citation_is_reported(text: str) -> None:
    assert find_unresolved("ledger/some.py", text) != []


@pytest.mark.parametrize(
    "text",
    [
        "contract §1.9",
        "contract §1.2, §1.6 and (§3)",
        "contract\n    # §5.3-§5.6",
        "internal API §3",
        "contract Appendix B",
    ],
)
def test_a_right_citation_is_not_reported(text: str) -> None:
    assert find_unresolved("ledger/some.py", text) == []


def test_sections_are_cited_in_one_form() -> None:
    wrong = [
        f"{place(name, text, match.start())}: {match[0]}"
        for name, text in texts().items()
        for match in OTHER_FORMS.finditer(text)
    ]
    assert wrong == []


def test_section_numbers_are_used_once() -> None:
    for document in DOCUMENTS.values():
        titles = [match["title"].split(" ")[0] for match in HEADING.finditer(prose(texts()[document]))]
        numbers = [title for title in titles if title[0].isdigit()]
        assert len(numbers) == len(set(numbers)), document


def test_every_row_that_tests_name_is_of_a_section_of_the_contract() -> None:
    known = sections(DOCUMENTS["contract"])
    rows = (ROOT / "tests/contract_rows.txt").read_text().splitlines()
    assert [row for row in rows if row and f"§{row.split(' ')[0]}" not in known] == []


def test_every_cited_invariant_is_in_the_readme() -> None:
    known = set(re.findall(r"^(\d+)\. \*\*", texts()["README.md"], re.M))
    cited = [(name, number) for name, text in texts().items() for number in INVARIANT.findall(text)]
    assert cited
    assert [(name, number) for name, number in cited if number not in known] == []


def test_every_named_document_exists() -> None:
    """By its path from the root, from the file that names it, or from `docs`."""
    missing = [
        f"{place(name, text, match.start())}: {match[0]}"
        for name, text in texts().items()
        for match in FILE.finditer(text)
        if not any((base / match[0]).exists() for base in (ROOT, (ROOT / name).parent, ROOT / "docs"))
    ]
    assert missing == []


def test_every_path_in_the_documents_exists() -> None:
    """Only decisions and the changelog may name files that have been moved or deleted since."""
    missing = [
        f"{place(name, text, match.start())}: {match[1]}"
        for name, text in texts().items()
        if name.endswith(".md") and not name.startswith(("docs/decisions/", "CHANGELOG"))
        for match in PATH.finditer(text)
        if not (ROOT / match[1]).exists()
    ]
    assert missing == []


def test_every_link_resolves() -> None:
    """Links between Markdown files of the repository, and their fragments."""
    wrong = []
    for name, text in texts().items():
        if not name.endswith(".md"):
            continue
        for match in LINK.finditer(prose(text)):
            target, _, anchor = match["target"].partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            file = (ROOT / name).parent / target if target else ROOT / name
            inside = str(file.resolve().relative_to(ROOT)) if file.resolve().is_relative_to(ROOT) else ""
            if not inside or not file.exists() or (anchor and anchor not in anchors(inside)):
                wrong.append(f"{place(name, text, match.start())}: {match['target']}")
    assert wrong == []

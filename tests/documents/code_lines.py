"""The lines of code in the documents: what a reader may copy into a terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "docs/audit/*.md", "clients/*.md",
    "deploy/*.md", "examples/*/README.md",
)  # fmt: skip
PROGRAM = re.compile(
    r"^(?:[A-Z_]+=\S+ )*(?:kubectl .* -- |docker compose exec api )?"
    r"(?:\S*/bin/|run_)?ledger (?P<words>[a-z-].*)$"
)


class Line(NamedTuple):
    """A line of code: where it is, and whether it is in a block, or a few words in a sentence."""

    place: str
    text: str
    in_block: bool


class Command(NamedTuple):
    """A call of `ledger`: the words after that one. What a sentence or a table names need not be whole."""

    place: str
    words: tuple[str, ...]
    whole: bool


@cache
def documents() -> dict[str, str]:
    """The texts that are checked, by path. Decisions and the changelog speak of earlier releases, too."""
    files = [file for pattern in PATTERNS for file in sorted(ROOT.glob(pattern))]
    return {str(file.relative_to(ROOT)): file.read_text() for file in files}


@cache
def lines() -> tuple[Line, ...]:
    """Every line of every block of code, continued ones joined, and all code within sentences."""
    found = []
    for name, text in documents().items():
        for token in MarkdownIt("commonmark").enable("table").parse(text):
            place = f"{name}:{(token.map or [0])[0] + 1}"
            if token.type in ("code_block", "fence"):
                found += [Line(place, line, True) for line in _read_block(token.content)]
            found += [
                Line(place, child.content, False)
                for child in token.children or ()
                if child.type == "code_inline"
            ]
    return tuple(found)


def _read_block(text: str) -> list[str]:
    """The lines of a block, without what a program prints: all but those with a prompt, if there are any."""
    joined = [line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines()]
    typed = [line.removeprefix("$ ") for line in joined if line.startswith("$ ")]
    return typed or joined


def commands() -> Iterator[Command]:
    """Every call of `ledger`."""
    for line in lines():
        starts = PROGRAM.search(line.text) if line.in_block else re.match(r"ledger (?P<words>.+)", line.text)
        if starts is None:
            continue
        # After two spaces there is a remark, or in a table another command.
        texts = re.split(r"\s{2,}", f"ledger {starts['words']}")
        for text in texts:
            for part in re.split(r" (?:\||&&|>) ", text):
                if part.startswith("ledger "):
                    yield from _read_command(line, part, is_alone=len(texts) == 1 or "  #" in line.text)


def _read_command(line: Line, text: str, *, is_alone: bool) -> Iterator[Command]:
    plain = text if line.in_block and is_alone else re.sub(r"[\[\]]", "", text)
    words = shlex.split(plain, comments=True)[1:]
    is_whole = line.in_block and is_alone and "…" not in words
    for number, word in enumerate(words):
        if re.fullmatch(r"[a-z]+(\|[a-z-]+)+", word):
            for choice in word.split("|"):
                yield Command(line.place, (*words[:number], choice), False)
            return
    yield Command(line.place, tuple(word for word in words if word != "…"), is_whole)

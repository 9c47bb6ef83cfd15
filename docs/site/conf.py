"""The site that `make docs` makes of the documents: which files are its pages, and its menu.

Its source is the whole repository, so a link between README, documents and examples holds in the site as it
does in the repository. A build fails with a link that leads nowhere, and with a page that loads anything from
another host. docs/decisions/0098-site-by-sphinx.md says why Sphinx.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from sphinx.errors import SphinxError

ROOT = Path(__file__).resolve().parents[2]

project = "Ledger"
extensions = ["myst_parser"]
root_doc = "docs/README"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/**/*.md",
    "examples/*/*.md",
    "clients/*.md",
    "clients/*/*/README.md",
    "deploy/*.md",
]
exclude_patterns = [".*", "build", "tests", "**/node_modules"]
nitpicky = True
highlight_language = "none"
myst_heading_anchors = 6  # named as GitHub names them

html_theme = "furo"
html_title = "Ledger"
html_additional_pages = {"index": "to_home.html"}
templates_path = ["."]
html_copy_source = False
html_use_index = False

# By role, then what concerns all. The build fails for a page that is in none of these.
MENU = {
    "Use it": (
        "README", "docs/api", "docs/webhooks", "docs/thin-events", "docs/stripe-cli", "docs/testing",
        "docs/wire-contract", "docs/compatibility", "docs/internal-api", "docs/feed", "clients/README",
        "clients/python/ledger_feed/README", "clients/typescript/ledger-feed/README",
        "examples/front-end/README", "examples/stripe-cli/README", "examples/thin-events/README",
    ),
    "Run it": (
        "docs/operations", "docs/console", "docs/alerts", "docs/erasure", "docs/high-availability",
        "docs/scaling", "deploy/README", "docs/rebuilding", "docs/benchmarks",
    ),
    "Ask it": ("docs/analysis", "docs/audit"),
    "Change it": (
        "docs/architecture", "docs/glossary", "CONTRIBUTING", "docs/decisions/README",
        "examples/new-command/README", "examples/new-column/README", "examples/new-event-shape/README",
    ),
    "Releases": ("CHANGELOG", "SECURITY"),
}  # fmt: skip
FOLDERS = {"docs/audit": "audit/*", "docs/decisions/README": "*"}

FOREIGN = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.I)
FOREIGN_IN_CSS = re.compile(r"(?:url\(\s*|@import\s+)[\"']?(?:https?:)?//[^\"')\s]+", re.I)


def build_menu(page: str) -> str:
    """The part of the menu that hangs below a page, as Markdown that only Sphinx sees."""
    if page == root_doc:
        return "".join(
            _build_toctree([f"/{name}" for name in pages if (ROOT / f"{name}.md").exists()], caption)
            for caption, pages in MENU.items()
        )
    return _build_toctree([FOLDERS[page]]) if page in FOLDERS else ""


def _build_toctree(pages: list[str], caption: str = "") -> str:
    options = [":hidden:", ":glob:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["\n\n```{toctree}", *options, "", *pages, "```\n"])


class _Loads(HTMLParser):
    """The addresses that a browser loads with a page; it loads no link to another page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag loads."""
        loaded = {"src", "srcset", "data", "poster"} | (
            {"href"} if tag in ("link", "image", "use") else set()
        )
        self.addresses += [value for name, value in attrs if name in loaded and value]


def find_foreign(folder: Path) -> list[str]:
    """What pages and styles of a built site load from other hosts, with the file that does."""
    found = []
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".html":
            loads = _Loads()
            loads.feed(file.read_text())
            addresses = [address for address in loads.addresses if FOREIGN.match(address.strip())]
        elif file.suffix == ".css":
            addresses = FOREIGN_IN_CSS.findall(file.read_text())
        else:
            continue
        found += [f"{file.relative_to(folder)} loads {address}" for address in addresses]
    return found


def setup(app) -> None:
    """Add the menu to the sources, and check what was built."""

    def add_menu(_, page: str, source: list[str]) -> None:
        source[0] += build_menu(page)

    def check_built(app, exception: Exception | None) -> None:
        foreign = [] if exception else find_foreign(Path(app.outdir))
        if foreign:
            raise SphinxError("\n".join(foreign))

    app.connect("source-read", add_menu)
    app.connect("build-finished", check_built)

"""The two libraries of the feed as packages: what is in them, what they need, and what they share."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copytree, ignore_patterns

from ledger_feed.feed import Feed
from ledger_feed.positions import CREATE_TABLES
from tests.api.service import ROOT

PYTHON = ROOT / "clients" / "python" / "ledger_feed"
TYPESCRIPT = ROOT / "clients" / "typescript" / "ledger-feed"


def test_the_wheel_is_typed_and_needs_only_httpx_and_psycopg(tmp_path: Path) -> None:
    """Built with the setuptools that is installed here, from a copy: a build leaves files behind."""
    copytree(PYTHON, tmp_path / "source", ignore=ignore_patterns("build", "*.egg-info", "__pycache__"))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path))
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, tmp_path / "source"], check=True)
    (wheel,) = tmp_path.glob("ledger_feed-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    modules = {f"ledger_feed/{file.name}" for file in (PYTHON / "src" / "ledger_feed").glob("*.py")}
    assert modules | {"ledger_feed/py.typed"} == {name for name in names if name.startswith("ledger_feed/")}
    required = re.findall(r"^Requires-Dist: (\w+)[^;\n]*$", metadata, re.M)
    assert sorted(required) == ["httpx", "psycopg"]


def test_both_libraries_have_the_same_tables() -> None:
    """So a consumer may be moved from one language to the other."""
    source = (TYPESCRIPT / "src" / "postgres.ts").read_text()
    tables = re.search(r"CREATE_TABLES = `(.+?)`", source, re.S)
    assert tables is not None
    assert tables[1].strip() == CREATE_TABLES.strip()


def test_a_filter_is_the_same_text_in_whatever_order_it_is_given() -> None:
    """The TypeScript library writes the same text, under which a consumer's position is kept."""
    feed = Feed(
        "http://127.0.0.1:1", "key", types=["dispute.won", "charge.*"], account="acct_1", object="du_1"
    )
    assert feed.filter == '{"account": "acct_1", "object": "du_1", "types": "charge.*,dispute.won"}'
    assert Feed("http://127.0.0.1:1", "key").filter == "{}"

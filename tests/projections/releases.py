"""Another release beside this one: a copy of the sources with the changes of an example."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg

from ledger.postgres.migrations import release_version
from tests.serving.process import REPOSITORY, build_environment

EXAMPLES = REPOSITORY / "examples"
_SOURCES = ("ledger", "projections", "alembic", "tests")
_NOT_COPIED = shutil.ignore_patterns("node_modules")  # compiled files are: they stay valid unless patched


def create_release(patch: Path, directory: Path) -> Path:
    """Copy this release to `directory` and apply `patch`, a unified diff, to the copy."""
    for source in _SOURCES:
        shutil.copytree(REPOSITORY / source, directory / source, ignore=_NOT_COPIED)
    shutil.copy(REPOSITORY / "pyproject.toml", directory)
    for change in re.split(r"^--- .*\n", patch.read_text(), flags=re.MULTILINE)[1:]:
        file, *hunks = re.split(r"^@@.*\n", change, flags=re.MULTILINE)
        _apply_hunks(directory / file.removeprefix("+++ b/").strip(), hunks)
    return directory


def run_tests(release: Path, *arguments: str) -> None:
    """Run tests of the release, with the sources of the release; they must pass."""
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        env=build_environment(release, release=release),
        cwd=release,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout


def add_migration(release: Path, file: Path) -> str:
    """Make `file` the release's next migration, with the next free number, and return its schema version."""
    last = max(path.name for path in release.glob("alembic/versions/[0-9]*.py"))[:4]
    number = f"{int(last) + 1:04}"
    text = re.sub(r'^revision = ".*"', f'revision = "{number}"', file.read_text(), flags=re.MULTILINE)
    text = re.sub(r'^down_revision = ".*"', f'down_revision = "{last}"', text, flags=re.MULTILINE)
    # The numbers of other migrations in it change by the same amount.
    shift = int(number) - int(file.name[:4])
    text = re.sub(r"oldest = '(\d+)'", lambda match: f"oldest = '{int(match[1]) + shift:04}'", text)
    (release / "alembic" / "versions" / f"{number}{file.name[4:]}").write_text(text)
    assert number > release_version()
    return number


def _apply_hunks(file: Path, hunks: list[str]) -> None:
    text = file.read_text() if file.exists() else ""
    for hunk in hunks:
        lines = [line for line in hunk.splitlines(keepends=True) if not line.startswith("\\")]
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1 or not text, f"{file.name}: the example no longer fits\n{hunk}"
        text = text.replace(before, after) if text else after
    file.write_text(text)


def let_earlier_releases_run(dsn: str, allowed: bool) -> None:
    """Whether what only later releases read may not be written yet."""
    with psycopg.connect(dsn) as conn:
        conn.execute("UPDATE ledger.erasure_epoch SET epoch = %s", (int(not allowed),))
